"""Checkpoints of openai/circuit_sparsity in and out, and a compact format for sparse weights."""

from circuits_jax.released.export import export
from circuits_jax.released.load import Released, load
from circuits_jax.released.sparse_format import load_sparse, save_sparse
from circuits_jax.released.tinypython import TinyPython

__all__ = ["Released", "TinyPython", "export", "load", "load_sparse", "save_sparse"]
