"""A dataset of TFDS as documents."""

from collections.abc import Iterator

import tensorflow_datasets as tfds

from circuits_jax.config import DataConfig
from circuits_jax.data.sources import documents
from circuits_jax.data.sources.documents import DocumentsConfig, as_utf8
from circuits_jax.data.sources.left_out import LeftOut
from circuits_jax.storage.errors import ConfigError
from circuits_jax.storage.paths import as_path


def tfds_config(config: DataConfig) -> DocumentsConfig:
    """Any dataset of TFDS; the examples of all its splits are divided anew."""
    builder = _tfds_builder(config)
    if config.text not in builder.info.features:
        names = ", ".join(builder.info.features)
        raise ConfigError(
            f"the dataset {config.name} has no feature {config.text!r}, which data.text names; it has {names}"
        )

    def examples() -> Iterator[tuple[str, bytes | LeftOut]]:
        for split in sorted(builder.info.splits):
            source = builder.as_data_source(split)
            for index in range(len(source)):
                yield f"{split}/{index}", as_utf8(source[index][config.text])

    sizes = [
        [split, info.num_examples, info.num_bytes] for split, info in sorted(builder.info.splits.items())
    ]
    identity = [
        "tfds",
        builder.info.full_name,
        config.text,
        sizes,
        config.validation_fraction,
        config.deduplicate,
    ]
    return documents.documents_config(identity, examples, f"the examples of {config.name}", config)


def _tfds_builder(config: DataConfig) -> tfds.core.DatasetBuilder:
    """The prepared dataset `data.name`, from the folder `data.roots` if one is given, else TFDS' own."""
    if not config.name:
        raise ConfigError("data.source 'tfds' needs data.name, such as 'wiki40b/en'")
    if len(config.roots) > 1:
        raise ConfigError(
            f"data.source 'tfds' takes one folder as data.roots, its data_dir; there are {config.roots}"
        )
    try:
        builder = tfds.builder(config.name, data_dir=as_path(config.roots[0]) if config.roots else None)
        if not builder.is_prepared():
            builder.download_and_prepare(file_format="array_record")
        builder.as_data_source(next(iter(builder.info.splits)))
    except Exception as error:  # TFDS runs the datasets' own code, which raises anything
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        reason = reason.partition(" Available datasets")[0][:300]
        raise ConfigError(
            f"the TFDS dataset {config.name!r} cannot be used ({reason}); prepare it as array_record, "
            "and name its data_dir in data.roots"
        ) from error
    return builder
