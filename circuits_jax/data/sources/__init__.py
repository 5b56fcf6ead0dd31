"""Where documents come from: `data.source` (Python trees, TFDS, JSON lines, Parquet)."""

from pathlib import Path

from circuits_jax.config import SOURCES, DataConfig
from circuits_jax.data.sources import documents
from circuits_jax.data.sources.documents import Documents
from circuits_jax.data.sources.python_trees import source_config
from circuits_jax.data.sources.rows import read_jsonl, read_parquet, rows_config
from circuits_jax.data.sources.tfds_dataset import tfds_config
from circuits_jax.storage.errors import ConfigError


def build(config: DataConfig, data_dir: Path) -> Documents:
    """The corpus of `config`, read now or found ready under `data_dir`.

    Raises:
      ConfigError: if its source is unknown, cannot be read, or holds no text.
    """
    if config.source == "python":
        return documents.build(source_config(config), data_dir)
    if config.source == "tfds":
        return documents.build(tfds_config(config), data_dir)
    if config.source == "jsonl":
        return documents.build(rows_config(config, read_jsonl), data_dir)
    if config.source == "parquet":
        return documents.build(rows_config(config, read_parquet), data_dir)
    raise ConfigError(f"data.source is {config.source!r}; choose one of {', '.join(SOURCES)}")
