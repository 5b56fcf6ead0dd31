"""Where orbax reads and writes checkpoints: always a plain folder on disk.

Of the libraries below it some take a folder's name for a pattern, others for a URL, and none can write to
every bucket (tensorstore knows no S3 as orbax asks for it, and Google's buckets by another library than the
rest of the run).  So a folder with a name that is not plain is reached through a link, and the checkpoints of
a bucket are copied: whole, their files first and a marker last, the same way to every kind of bucket.
"""

import contextlib
import json
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from circuits_jax.storage.buckets import BucketPath
from circuits_jax.storage.files import write_json
from circuits_jax.storage.paths import as_path

# Where orbax itself says that a checkpoint in a bucket is whole, and keeps the metrics of any.
MARKER, METRICS = "commit_success.txt", "metrics/metrics"
_PLAIN = re.compile(r"[A-Za-z0-9/._-]*")


class OnDisk:
    """A folder of checkpoints on disk; `path` leads there, by a link if its own name is not plain."""

    def __init__(self, folder: Path):
        self._link: tempfile.TemporaryDirectory[str] | None = None
        self.path = folder
        if not _PLAIN.fullmatch(str(folder)):
            self._link = tempfile.TemporaryDirectory(prefix="circuits_jax-")
            link = as_path(self._link.name) / "workdir"
            link.symlink_to(folder.parent, target_is_directory=True)
            self.path = link / folder.name

    @contextlib.contextmanager
    def reading(self, step: int) -> Iterator[Path]:
        """The folder of a checkpoint, for the length of the block."""
        yield self.path / str(step)

    def close(self) -> None:
        """Removes the link."""
        if self._link is not None:
            self._link.cleanup()


class InBucket:
    """A folder of checkpoints in a bucket; from `path`, a folder on disk, new ones are copied there."""

    def __init__(self, folder: BucketPath, path: Path):
        self._folder, self.path = folder, path

    def close(self) -> None:
        """Removes what is on disk."""
        shutil.rmtree(self.path, ignore_errors=True)

    def steps(self) -> list[int]:
        """Steps of the whole checkpoints, increasing."""
        names = (path.parent.name for path in self._folder.glob(f"*/{MARKER}"))
        return sorted(int(name) for name in names if name.isdecimal())

    def clear(self) -> None:
        """Removes what a killed run left half copied or removed, and makes room on disk for new ones."""
        self.close()
        self.path.mkdir(parents=True)
        whole = self.steps()
        for path in self._folder.iterdir():
            if path.name.isdecimal() and int(path.name) not in whole:
                path.rmtree()

    def upload(self, step: int, metrics: Mapping[str, float]) -> None:
        """Copies a checkpoint to the bucket, with its metrics; there it is whole when the marker is there."""
        target = self._folder / str(step)
        target.upload(self.path / str(step))
        write_json(target / METRICS, dict(metrics))
        (target / MARKER).write_bytes(f"Checkpoint commit was successful to {target}".encode())

    @contextlib.contextmanager
    def reading(self, step: int) -> Iterator[Path]:
        """A copy on disk of a checkpoint of the bucket, for the length of the block."""
        with tempfile.TemporaryDirectory(prefix="circuits_jax-") as folder:
            (self._folder / str(step)).download(as_path(folder))
            yield as_path(folder)

    def remove_all_but(self, newest: int, best: int, metric: str) -> None:
        """Removes checkpoints, the marker first, but the newest and those whose `metric` is lowest."""
        steps = self.steps()
        for step in set(steps) - set(steps[-newest:]) - set(self._lowest(steps, metric)[:best]):
            (self._folder / str(step) / MARKER).unlink(missing_ok=True)
            (self._folder / str(step)).rmtree()

    def _lowest(self, steps: Sequence[int], metric: str) -> list[int]:
        """Steps of which a metric is known, its lowest value first."""
        values = {}
        for step in steps:
            try:
                values[step] = float(json.loads((self._folder / str(step) / METRICS).read_bytes())[metric])
            except (FileNotFoundError, KeyError, TypeError, ValueError):
                continue  # saved between evaluations, or its loss was no number
        return sorted(values, key=lambda step: values[step])
