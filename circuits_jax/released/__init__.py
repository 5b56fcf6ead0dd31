"""Checkpoints and circuits of openai/circuit_sparsity in and out, and a compact format for sparse weights."""

from circuits_jax.data.tinypython import TinyPython
from circuits_jax.released.any_layout import load_any
from circuits_jax.released.export import export
from circuits_jax.released.load import Released, load
from circuits_jax.released.sparse_format import load_sparse, save_sparse
from circuits_jax.released.viz_data import Sample, VizData, import_viz
from circuits_jax.released.viz_export import export_viz
from circuits_jax.released.workdir import as_workdir

__all__ = [
    "Released",
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
