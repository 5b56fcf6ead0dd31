"""TFDS builders that write a corpus of any size in little memory.

TFDS' own writer keeps up to a gigabyte of documents in memory to sort them, and needs TensorFlow beyond that.
Here documents are spooled to disk as they come, their sort keys alone are kept, and they are written in TFDS'
order, so that a corpus is what it would be if TFDS had written it.
"""

import array
import contextlib
import hashlib
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from tensorflow_datasets.core.example_serializer import ExampleSerializer

from circuits_jax.storage.paths import as_path


class Spool:
    """Documents of one split on disk, 36 bytes of memory for each.

    Args:
      folder: Where the file lies until `close`.
      split: Name of the split, which TFDS' order depends on.
    """

    def __init__(self, folder: Path, split: str):
        self._file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 (closed by `close`)
        self._salt = hashlib.md5(split.encode(), usedforsecurity=False)
        self._keys = array.array("Q")  # high and low half of each document's key
        self._starts, self._names, self._sizes = array.array("Q"), array.array("I"), array.array("Q")
        self._end = 0

    def __len__(self) -> int:
        return len(self._starts)

    def add(self, name: str, data: bytes) -> None:
        """Appends a document."""
        title = name.encode()
        key = self._salt.copy()
        key.update(title.replace(b"\\", b"/"))
        self._keys.extend(int.from_bytes(key.digest()[at : at + 8], "big") for at in (0, 8))
        self._file.write(title)
        self._file.write(data)
        self._starts.append(self._end)
        self._names.append(len(title))
        self._sizes.append(len(data))
        self._end += len(title) + len(data)

    def in_order(self) -> Iterator[tuple[str, bytes]]:
        """(name, content) of every document, in TFDS' order: by MD5 of split and name."""
        keys = np.frombuffer(self._keys, np.uint64).reshape(-1, 2)
        for place in np.lexsort((keys[:, 1], keys[:, 0])):
            self._file.seek(self._starts[place])
            title = self._file.read(self._names[place])
            yield title.decode(), self._file.read(self._sizes[place])

    def close(self) -> None:
        """Deletes the file."""
        self._file.close()


class OrderedBuilder(tfds.core.GeneratorBasedBuilder):
    """A builder of the features `text`, `path` (the document's name) and `sha256`.

    A class of this kind says in `_documents` what its splits hold.
    """

    # Nothing is downloaded. The inherited search for a list of URLs needs the package importlib_resources,
    # which tensorflow-datasets 4.9.10 does not install.
    url_infos = None

    def _documents(self, spools: dict[str, Spool]) -> None:
        """Adds every document to the spool of its split."""
        raise NotImplementedError

    def _split_names(self) -> tuple[str, ...]:
        raise NotImplementedError

    def _features(self) -> tfds.features.FeaturesDict:
        return tfds.features.FeaturesDict({name: tfds.features.Text() for name in ("text", "path", "sha256")})

    def _download_and_prepare(self, dl_manager: Any, download_config: Any = None) -> None:
        del dl_manager, download_config
        folder = as_path(self.data_dir)
        with contextlib.ExitStack() as stack:
            spools = {
                split: stack.enter_context(contextlib.closing(Spool(folder, split)))
                for split in self._split_names()
            }
            self._documents(spools)
            self.info.set_splits(
                tfds.core.SplitDict([self._write(split, spool) for split, spool in spools.items()])
            )

    def _write(self, split: str, spool: Spool) -> tfds.core.SplitInfo:
        """Writes a split as one file."""
        template = self._get_filename_template(split_name=split)
        features = self.info.features
        serializer = ExampleSerializer(features.get_serialized_info())
        size = 0

        def records() -> Iterator[tuple[int, bytes]]:
            nonlocal size
            for number, (name, data) in enumerate(spool.in_order()):
                digest = hashlib.sha256(data).hexdigest()
                example = features.encode_example({"text": data, "path": name, "sha256": digest})
                record = serializer.serialize_example(example)
                size += len(record)
                yield number, record

        self._example_writer().write(template.sharded_filepath(shard_index=0, num_shards=1), records())
        return tfds.core.SplitInfo(
            name=split, shard_lengths=[len(spool)], num_bytes=size, filename_template=template
        )

    def _split_generators(self, dl_manager: Any) -> dict[str, Any]:
        raise NotImplementedError  # `_download_and_prepare` does without

    def _generate_examples(self, **options: Any) -> Iterator[Any]:
        raise NotImplementedError  # likewise

    def _log_download_done(self) -> None:
        """Does not announce itself on stdout: nothing is downloaded."""

    def _log_download_bytes(self) -> None:
        """Likewise."""

    def _create_builder_config(self, builder_config: Any, *args: Any, **options: Any) -> Any:
        """The given configuration; tfds warns of any that no list of the class names."""
        del args, options
        return builder_config


def prepare_quietly(builder: tfds.core.DatasetBuilder) -> None:
    """Builds a corpus without the progress bars of tfds, which are for downloads."""
    tfds.disable_progress_bar()
    builder.download_and_prepare(file_format="array_record")
