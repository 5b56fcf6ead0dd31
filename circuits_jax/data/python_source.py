"""A TFDS builder over trees of Python source, without TensorFlow and without a network."""

import contextlib
import dataclasses
import hashlib
import io
import json
import os
import stat
import sysconfig
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import tensorflow_datasets as tfds
from absl import logging

from circuits_jax.config import DataConfig
from circuits_jax.errors import ConfigError

SPLITS = ("train", "validation")


@dataclasses.dataclass(frozen=True)
class SourceFile:
    """One listed file.

    Attributes:
      path: Where it lies.
      name: Number of its root, then its path below that root; unique in a corpus and printable.
      size: Bytes, -1 if it cannot be told.
      mtime: Time of last change, ns.
    """

    path: str
    name: str
    size: int
    mtime: int


@dataclasses.dataclass(eq=False, kw_only=True)
class SourceConfig(tfds.core.BuilderConfig):
    """One corpus; `name` is a hash of all that decides its contents, so that no other is ever reused."""

    files: tuple[SourceFile, ...] = ()
    roots: tuple[str, ...] = ()
    validation_fraction: float = 0.05


class PythonSource(tfds.core.GeneratorBasedBuilder):
    """Files of Python source, one example each.

    Features: `text` (exactly the file's UTF-8), `path` (number of the root / path below it), `sha256` of the
    file. Splits `train` and `validation`, by file and by content hash: equal files are never in both.
    `info.metadata`: `files` and `bytes` kept, `skipped` files that could not be read or decoded, and
    `content`, a hash of all names, contents and splits, which is the same wherever the files lie.
    """

    VERSION = tfds.core.Version("1.0.0")
    # Nothing is downloaded. The inherited search for a list of URLs needs the package importlib_resources,
    # which tensorflow-datasets 4.9.10 does not install.
    url_infos = None

    def _info(self) -> tfds.core.DatasetInfo:
        return tfds.core.DatasetInfo(
            builder=self,
            description="Files of Python source.",
            features=tfds.features.FeaturesDict(
                {name: tfds.features.Text() for name in ("text", "path", "sha256")}
            ),
            metadata=tfds.core.MetadataDict(),
        )

    def _split_generators(self, dl_manager: Any) -> dict[str, Iterator[tuple[str, dict[str, Any]]]]:
        corpus: SourceConfig = self.builder_config
        splits: dict[str, list[tuple[SourceFile, str]]] = {split: [] for split in SPLITS}
        content, size = hashlib.sha256(), 0
        for file in corpus.files:
            data = read_source(file.path)
            if data is None:
                continue
            digest = hashlib.sha256(data).hexdigest()
            split = split_of(digest, corpus.validation_fraction)
            splits[split].append((file, digest))
            content.update(f"{file.name}\n{digest}\n{split}\n".encode())
            size += len(data)
        kept = sum(map(len, splits.values()))
        self._check_splits(splits, kept)
        self.info.metadata.update(
            files=kept, skipped=len(corpus.files) - kept, bytes=size, content=content.hexdigest()
        )
        return {split: self._generate_examples(files) for split, files in splits.items()}

    def _generate_examples(
        self, files: Sequence[tuple[SourceFile, str]]
    ) -> Iterator[tuple[str, dict[str, Any]]]:
        for file, digest in files:
            data = read_source(file.path)
            if data is None or hashlib.sha256(data).hexdigest() != digest:
                raise ConfigError(f"{file.path} changed while the corpus was read; start again")
            yield file.name, {"text": data, "path": file.name, "sha256": digest}

    def _check_splits(self, splits: dict[str, list[Any]], kept: int) -> None:
        corpus = self.builder_config
        if not kept:
            raise ConfigError(
                f"none of the {len(corpus.files)} Python files under data.roots {', '.join(corpus.roots)} "
                "could be read as UTF-8; name other folders"
            )
        for split, files in splits.items():
            if not files:
                raise ConfigError(
                    f"the {split} split is empty: with data.validation_fraction {corpus.validation_fraction} "
                    f"none of the {kept} files falls into it; change the fraction or add files to data.roots"
                )


def build(config: DataConfig, data_dir: Path) -> PythonSource:
    """The corpus of `config`, read now or found ready under `data_dir`.

    Raises:
      ConfigError: if a root is missing or holds no file that can be used.
    """
    # The progress bars and announcements of tfds are for downloads.
    tfds.disable_progress_bar()
    with contextlib.redirect_stdout(io.StringIO()), _verbosity(logging.ERROR):
        builder = PythonSource(data_dir=data_dir, config=source_config(config))
        builder.download_and_prepare(file_format="array_record")
    return builder


def source_config(config: DataConfig) -> SourceConfig:
    """Lists the files of `config` and names the corpus after them.

    Raises:
      ConfigError: if a root is no folder, or no Python file lies under the roots.
    """
    roots = _resolve(config.roots or (sysconfig.get_path("stdlib"),))
    files = tuple(list_files(roots, config.exclude))
    if not files:
        raise ConfigError(
            f"no Python file lies under data.roots {', '.join(roots)} (folders named "
            f"{', '.join(config.exclude)} are left out); name other folders"
        )
    identity = [roots, sorted(config.exclude), config.validation_fraction]
    identity += [[file.name, file.size, file.mtime] for file in files]
    name = hashlib.sha256(json.dumps(identity).encode()).hexdigest()[:16]
    return SourceConfig(name=name, files=files, roots=roots, validation_fraction=config.validation_fraction)


def list_files(roots: Sequence[str], exclude: Sequence[str]) -> Iterator[SourceFile]:
    """Every `*.py` under `roots`, each once, in a fixed order; with folders that cannot be opened."""
    seen = set()
    for number, root in enumerate(roots):
        errors: list[OSError] = []
        paths = []
        for folder, folders, names in os.walk(root, onerror=errors.append):
            folders[:] = [name for name in folders if name not in exclude]
            paths += [os.path.join(folder, name) for name in names if name.endswith(".py")]
        for path in sorted(paths + [error.filename for error in errors]):
            real = os.path.realpath(path)
            if real not in seen:
                seen.add(real)
                yield _source_file(path, f"{number}/{os.path.relpath(path, root)}")


def read_source(path: str) -> bytes | None:
    """The bytes of a file of UTF-8, as they are, or None if it cannot be opened or decoded."""
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):  # a pipe would block
            return None
        data = Path(path).read_bytes()
        data.decode()
    except (OSError, UnicodeDecodeError):
        return None
    return data


def split_of(digest: str, validation_fraction: float) -> str:
    """The split of a file with this hex digest; it keeps its split whatever else the corpus holds."""
    return "validation" if int(digest[:16], 16) < validation_fraction * 2**64 else "train"


def _source_file(path: str, name: str) -> SourceFile:
    printable = name.encode("utf-8", "backslashreplace").decode()  # names may hold bytes that are no text
    try:
        status = os.stat(path)
    except OSError:
        return SourceFile(path, printable, -1, 0)
    return SourceFile(path, printable, status.st_size, status.st_mtime_ns)


def _resolve(roots: Sequence[str]) -> tuple[str, ...]:
    """Absolute folders, each once, in the given order."""
    for root in roots:
        if not os.path.isdir(os.path.expanduser(root)):
            raise ConfigError(f"data.roots names {root}, which is not a folder; name folders that exist")
    return tuple(dict.fromkeys(os.path.realpath(os.path.expanduser(root)) for root in roots))


@contextlib.contextmanager
def _verbosity(level: int) -> Iterator[None]:
    """Sets absl's log level within the block."""
    before = logging.get_verbosity()
    logging.set_verbosity(level)
    try:
        yield
    finally:
        logging.set_verbosity(before)
