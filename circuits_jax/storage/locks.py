"""One process at a time in a folder: a lock on a disk, a lease in a bucket.

A lock of the operating system ends with its process, whatever ended that.  Where there is none (buckets, some
network disks) the holder renews a small object; one that stays as it is for DEAD_SECONDS belongs to nobody.
Each holder makes a new object, numbered one more than the last and only if there is none, so that of several
that try one succeeds, without any clock that they would have to agree on.
"""

import contextlib
import datetime
import errno
import fcntl
import json
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from circuits_jax.storage.errors import LockError, UserError
from circuits_jax.storage.files import aside_of, check_writable
from circuits_jax.storage.paths import is_remote
from circuits_jax.storage.stopping import end, farewell

RENEW_SECONDS, DEAD_SECONDS = 15.0, 60.0
_LOOK_SECONDS = 1.0
_NO_LOCKS_HERE = (errno.ENOSYS, errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EINVAL)

Holder = dict[str, Any]


@contextlib.contextmanager
def locked(folder: Path, name: str = ".lock") -> Iterator[None]:
    """Within the block no other process has the lock `name` of `folder`, on this machine or another.

    Args:
      folder: On a disk or in a bucket; made if it is not there.
      name: Of the lock's file; it stays when the lock is given back.

    Raises:
      LockError: if another process has it: which one, where, and since when.
      UserError: if the folder cannot be written.
    """
    check_writable(folder)
    with contextlib.ExitStack() as held:
        try:
            if is_remote(folder) or not _lock(folder / name, held):
                lease = Lease(folder, name)
                lease.take()
                held.callback(lease.give_back)
                held.enter_context(farewell(lease.give_back))
        except OSError as error:
            raise UserError(f"cannot write to {folder}: {error.strerror or error}") from error
        yield


def _lock(path: Path, held: contextlib.ExitStack) -> bool:
    """Locks a file until `held` ends; False if its disk has no locks."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    held.callback(os.close, descriptor)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in _NO_LOCKS_HERE:
            return False
        if error.errno not in (errno.EWOULDBLOCK, errno.EACCES):
            raise
        raise _refusal(path.parent, _parse(os.pread(descriptor, 4096, 0))) from error
    with contextlib.suppress(OSError):  # a full disk: the lock holds without its note
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, json.dumps(_myself()).encode(), 0)
        held.callback(_forget, descriptor)
    return True


def _forget(descriptor: int) -> None:
    with contextlib.suppress(OSError):
        os.ftruncate(descriptor, 0)


class Lease:
    """A lock made of objects `NAME-NUMBER.json`, of which the one with the largest number counts."""

    def __init__(self, folder: Path, name: str, lost: Callable[[str], Any] = lambda why: end(why, 1)):
        """Args:
        folder: Where the objects lie.
        name: What their names begin with.
        lost: Called with one line if another process took the lease, thinking that this one is dead.
        """
        self._folder, self._name, self._lost = folder, name, lost
        self._given_back, self._number, self._beat = threading.Event(), 0, 0
        self._note = _myself()

    def take(self) -> None:
        """Takes the lease and renews it from now on.

        Raises:
          LockError: if another process has it.
        """
        while True:
            numbers = self._numbers()
            if numbers:
                self._wait_for_its_end(numbers[-1])
            self._number = numbers[-1] + 1 if numbers else 1
            try:
                _create(self._path(self._number), self._content())
            except FileExistsError:  # another process was faster
                continue
            # The one before stays: who lists the folder just now may miss the new one, but never both.
            for number in numbers[:-1]:
                self._path(number).unlink(missing_ok=True)
            threading.Thread(target=self._renew, daemon=True).start()
            return

    def give_back(self) -> None:
        """Lets others take it at once; the object stays, because its number counts."""
        if not self._given_back.is_set():
            self._given_back.set()
            with contextlib.suppress(OSError, UserError):  # it ends by itself, a minute later
                _replace(self._path(self._number), self._content())

    def _wait_for_its_end(self, number: int) -> None:
        """Returns when the lease `number` is given back or dead.

        Raises:
          LockError: as soon as it is renewed.
        """
        first = self._read(number)
        began, told = time.monotonic(), False
        while True:
            now = self._read(number)
            if now.get("given_back") is True:
                return
            if now.get("beat") != first.get("beat"):  # no clock is asked, for that of the holder may be wrong
                raise _refusal(self._folder, now)
            if time.monotonic() - began > DEAD_SECONDS:
                return
            if not told:
                print(
                    f"{self._folder} was in use by {_describe(now)}; looking for up to {DEAD_SECONDS:.0f} "
                    "seconds whether that still runs",
                    flush=True,
                )
                told = True
            time.sleep(_LOOK_SECONDS)

    def _renew(self) -> None:
        while not self._given_back.wait(RENEW_SECONDS):
            with contextlib.suppress(OSError, UserError):  # out of reach for now: tried again
                if self._numbers()[-1:] > [self._number]:
                    self._given_back.set()
                    taken = self._read(self._numbers()[-1])
                    self._lost(
                        f"\nerror: {self._folder} was taken over by {_describe(taken)} while this run could "
                        "not renew its lease; this run ends, checkpoints are intact"
                    )
                    return
                self._beat += 1
                _replace(self._path(self._number), self._content())

    def _numbers(self) -> list[int]:
        start, stop = f"{self._name}-", ".json"
        names = (path.name for path in self._folder.iterdir())
        found = (n[len(start) : -len(stop)] for n in names if n.startswith(start) and n.endswith(stop))
        return sorted(int(number) for number in found if number.isdecimal())

    def _path(self, number: int) -> Path:
        return self._folder / f"{self._name}-{number:08d}.json"

    def _read(self, number: int) -> Holder:
        try:
            return _parse(self._path(number).read_bytes())
        except FileNotFoundError:  # removed by whoever took it after it
            return {"beat": "gone"}

    def _content(self) -> bytes:
        # Releases before this one take a lease over at once unless it says that it was renewed just now.
        state = {"beat": self._beat, "renewed": time.time(), "given_back": self._given_back.is_set()}
        return json.dumps(self._note | state).encode()


def _create(path: Path, content: bytes) -> None:
    """Makes a file or an object, whole from the start; FileExistsError if there is one."""
    if is_remote(path):
        path.create(content)  # type: ignore[attr-defined]  # a bucket's path has it
        return
    with _beside(path, content) as whole:
        try:
            os.link(whole, path)
        except FileExistsError:
            raise
        except OSError:  # a disk without links: for a moment the file is empty
            with path.open("xb") as file:
                file.write(content)


def _replace(path: Path, content: bytes) -> None:
    """Writes a file or an object that is whole whenever it is read."""
    if is_remote(path):
        path.write_bytes(content)
        return
    with _beside(path, content) as whole:
        os.replace(whole, path)


@contextlib.contextmanager
def _beside(path: Path, content: bytes) -> Iterator[Path]:
    """A file with that content in the same folder, which must be there; it is gone after the block."""
    aside = aside_of(path)
    try:
        aside.write_bytes(content)
        yield aside
    finally:
        aside.unlink(missing_ok=True)


def _myself() -> Holder:
    since = datetime.datetime.now().astimezone().isoformat(" ", "seconds")
    return {"host": socket.gethostname(), "process": os.getpid(), "since": since}


def _parse(content: bytes) -> Holder:
    """A holder's note; {} if it is cut short or not there yet."""
    try:
        found = json.loads(content)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _describe(holder: Holder) -> str:
    host, process, since = (holder.get(key, "unknown") for key in ("host", "process", "since"))
    return f"process {process} on {host}, since {since}"


def _refusal(folder: Path, holder: Holder) -> LockError:
    return LockError(
        f"{folder} is in use by {_describe(holder)}; wait until that ends, or stop it, or name another folder"
    )
