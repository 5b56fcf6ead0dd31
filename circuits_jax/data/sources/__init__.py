"""Where documents come from: `data.source` (Python trees, TFDS, JSON lines, Parquet)."""

from pathlib import Path

from circuits_jax.config import SOURCES, DataConfig
from circuits_jax.data.sources import documents
from circuits_jax.data.sources.documents import Documents, DocumentsConfig
from circuits_jax.data.sources.python_trees import source_config
from circuits_jax.data.sources.rows import read_jsonl, read_parquet, rows_config
from circuits_jax.data.sources.tfds_dataset import tfds_config
from circuits_jax.storage.errors import ConfigError


def build(config: DataConfig, data_dir: Path) -> Documents:
    """The corpus of `config`, read now or found ready under `data_dir`.

    Raises:
      ConfigError: if its source is unknown, cannot be read, or holds no text.
    """
    return documents.build(find(config), data_dir)


def find(config: DataConfig) -> DocumentsConfig:
    """The documents that `config` names, looked for and not yet read.

    Raises:
      ConfigError: if their source is unknown, or there are none.
    """
    if config.source == "python":
        return source_config(config)
    if config.source == "tfds":
        return tfds_config(config)
    if config.source == "jsonl":
        return rows_config(config, read_jsonl)
    if config.source == "parquet":
        return rows_config(config, read_parquet)
    raise ConfigError(f"data.source is {config.source!r}; choose one of {', '.join(SOURCES)}")


def content_of(config: DataConfig) -> str:
    """The hash of the documents that `config` names, the same wherever they lie; reads all of them.

    Raises:
      ConfigError: as `find` does, or if they cannot be read.
    """
    return documents.content_of(find(config))
