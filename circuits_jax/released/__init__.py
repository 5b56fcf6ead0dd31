"""Checkpoints and circuits of openai/circuit_sparsity in and out, and a compact format for sparse weights."""

from circuits_jax.data.tokenizers.tinypython import TinyPython
from circuits_jax.released.any_layout import load_any
from circuits_jax.released.export import export
from circuits_jax.released.load import load
from circuits_jax.released.sparse_format import load_sparse, save_sparse
from circuits_jax.released.viz.parts import Sample
from circuits_jax.released.viz.read import VizData, import_viz
from circuits_jax.released.viz.write import export_viz
from circuits_jax.released.workdir import as_workdir

__all__ = [
    "Sample",
    "TinyPython",
    "VizData",
    "as_workdir",
    "export",
    "export_viz",
    "import_viz",
    "load",
    "load_any",
    "load_sparse",
    "save_sparse",
]
