"""Files of rows (JSON lines, Parquet) as documents."""

import contextlib
import gzip
import json
import os
import zlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

from circuits_jax.config import DataConfig
from circuits_jax.data.sources import documents
from circuits_jax.data.sources.documents import DocumentsConfig, as_utf8
from circuits_jax.data.sources.left_out import LeftOut
from circuits_jax.storage.errors import ConfigError
from circuits_jax.storage.lfs import refuse_pointer
from circuits_jax.storage.paths import matching

_PARQUET_ROWS = 1024


class Missing(NamedTuple):
    """In place of a row's value: why it has none."""

    why: str


def read_jsonl(path: str, column: str) -> Iterator[Any]:
    """What each line of a file of JSON objects, gzipped if its name ends in .gz, holds under `column`.

    Lines without that key give `Missing`.

    Raises:
      ConfigError: if the file cannot be read, or for a line that is no JSON object.
    """
    opened: Callable[..., Any] = gzip.open if path.endswith(".gz") else open
    with _readable(path, "file of JSON lines in UTF-8"), opened(path, "rt", encoding="utf-8-sig") as file:
        for number, line in enumerate(file, 1):
            if line.isspace():
                continue
            try:
                row = json.loads(line)
            except (ValueError, RecursionError) as error:
                raise ConfigError(f"{path}, line {number}: this is not JSON ({error})") from error
            if not isinstance(row, dict):
                raise ConfigError(f"{path}, line {number}: a {type(row).__name__}, not a JSON object")
            yield (
                row[column]
                if column in row
                else Missing(
                    f"{path}, line {number}: no {column!r}, which data.text names; it has {', '.join(row)}"
                )
            )


def read_parquet(path: str, column: str) -> Iterator[Any]:
    """The values of a column of a Parquet file, in order.

    Raises:
      ConfigError: if the file cannot be read or has no such column, or pyarrow is not installed.
    """
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError as error:
        raise ConfigError(
            "data.source 'parquet' needs pyarrow; pip install 'circuits_jax[parquet]'"
        ) from error
    readable = _readable(path, "Parquet file", pyarrow.ArrowException)
    with readable, parquet.ParquetFile(path) as file:
        if column not in file.schema_arrow.names:
            names = ", ".join(file.schema_arrow.names)
            raise ConfigError(f"{path} has no column {column!r}, which data.text names; it has {names}")
        for batch in file.iter_batches(batch_size=_PARQUET_ROWS, columns=[column]):
            yield from batch.column(0).to_pylist()


@contextlib.contextmanager
def _readable(path: str, what: str, *kinds: type[Exception]) -> Iterator[None]:
    """Turns what reading `path`, which is to be a `what`, raises, `kinds` among it, into one line."""
    if "\0" in path:
        raise ConfigError(f"{path!r} can be no file's name")
    try:
        with open(path, "rb") as file:
            refuse_pointer(file.read(64), path, ConfigError)
        yield
    except (OSError, EOFError, UnicodeDecodeError, zlib.error, *kinds) as error:
        reason = " ".join(str(error).split())[:200]
        raise ConfigError(f"{path} is no readable {what} ({reason})") from error


def rows_config(config: DataConfig, read: Callable[[str, str], Iterator[Any]]) -> DocumentsConfig:
    """Files of rows, one document each."""
    paths = _matching(config.roots, config.source)
    stats = [os.stat(path) for path in paths]

    def rows() -> Iterator[tuple[str, bytes | LeftOut]]:
        first, some = None, False
        for number, path in enumerate(paths):
            for row, value in enumerate(read(path, config.text)):
                if isinstance(value, Missing):
                    first, value = first or value, None
                else:
                    some = True
                yield f"{number}/{os.path.basename(path)}/{row}", as_utf8(value)
        if first is not None and not some:  # a key by another name
            raise ConfigError(first.why)

    identity = [config.source, config.text, config.validation_fraction, config.deduplicate]
    identity += [[path, stat.st_size, stat.st_mtime_ns] for path, stat in zip(paths, stats, strict=True)]
    what = f"the rows of {len(paths)} files of data.roots {', '.join(config.roots)}"
    return documents.documents_config(identity, rows, what, config)


def _matching(patterns: Sequence[str], source: str) -> list[str]:
    """The files that the patterns name, each once, in order."""
    if not patterns:
        raise ConfigError(
            f"data.source {source!r} needs data.roots: files, or patterns such as /data/*.{source}"
        )
    paths: list[str] = []
    for pattern in patterns:
        files = [os.path.realpath(path) for path in matching(pattern) if os.path.isfile(path)]
        if not files:
            raise ConfigError(
                f"no file matches {pattern} of data.roots; name files or patterns that match some"
            )
        paths += files
    return list(dict.fromkeys(paths))
