"""Files from the network, piece by piece: what came before a connection broke is kept, and gone on from."""

import contextlib
import fcntl
import hashlib
import importlib
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from circuits_jax.storage.buckets import BucketPath, explain_refusal
from circuits_jax.storage.cache import cache_folder
from circuits_jax.storage.errors import CheckpointError
from circuits_jax.storage.paths import may_be_folder
from circuits_jax.storage.progress import ProgressBar

BLOCK = 2**23  # bytes of one request
_STALLED = 60  # seconds without a byte
_LONGEST_REASON = 300
_PART, _RECORD = ".part", ".part.json"
# What file systems call the state of a remote file; one that changed is fetched anew.
_STATES = ("size", "ETag", "etag", "md5", "md5Hash", "LastModified", "mtime", "updated", "created")


@contextlib.contextmanager
def download_folder(url: str) -> Iterator[Path]:
    """A folder for what `url` names; it is removed afterwards, unless it holds the beginning of a file.

    It lies in the user's cache, or where that cannot be written among the temporary files.

    Raises:
      UserError: if neither can be written.
    """
    name = hashlib.sha256(url.encode("utf-8", "surrogateescape")).hexdigest()[:16]
    folder = cache_folder() / "downloads" / name
    folder.mkdir(parents=True, exist_ok=True)
    try:
        yield folder
    finally:
        if not any(part.stat().st_size for part in folder.glob(f"*{_PART}")):
            shutil.rmtree(folder, ignore_errors=True)


def open_url(url: str) -> tuple[Any, str]:
    """(file system, path) of a URL, by fsspec.

    Raises:
      CheckpointError: without the library that reads such URLs.
    """
    import fsspec

    if may_be_folder(url):
        place = BucketPath.of(url)
        return place.file_system, place.key
    options = {}
    if url.startswith(("http://", "https://")):
        with contextlib.suppress(ImportError):  # fsspec tells what is missing
            timeout = importlib.import_module("aiohttp").ClientTimeout
            # By default a whole file must come within five minutes.
            limits = timeout(total=None, sock_connect=_STALLED, sock_read=_STALLED)
            options = {"client_kwargs": {"timeout": limits}}
    try:
        return fsspec.core.url_to_fs(url, **options)
    except (ImportError, ValueError) as error:
        raise CheckpointError(f"{url} cannot be fetched: {reason(error)}") from error


def fetch(files: Any, source: str, target: Path, name: str) -> bool:
    """Copies one remote file, if it is there and not copied already; returns whether it is there.

    Args:
      files: An fsspec file system.
      source: The file's path there.
      target: Where it becomes whole; until then its beginning lies beside it.
      name: What the user called it.

    Raises:
      CheckpointError: if it cannot be fetched; what came is kept for the next call.
    """
    part = target.with_name(target.name + _PART)
    try:
        state = _state(files, source)
        if state is None:
            return False
        if not (target.exists() and _recorded(target) == state):
            _fetch(files, source, target, part, state)
    except FileNotFoundError:
        return False
    except fetching_errors() as error:
        if may_be_folder(name):
            explain_refusal(error, BucketPath.of(name))
        raise CheckpointError(f"{name} cannot be fetched: {reason(error)}{_kept(part)}") from error
    return True


def fetching_errors() -> tuple[type[Exception], ...]:
    """What fetching may raise, with what the installed libraries behind fsspec raise that is no OSError."""
    errors: list[type[Exception]] = [ImportError, OSError, ValueError]
    for library, name in (
        ("aiohttp", "ClientError"),
        ("botocore.exceptions", "BotoCoreError"),
        ("gcsfs.retry", "HttpError"),
        ("httpx", "HTTPError"),
    ):
        with contextlib.suppress(ImportError):
            errors.append(getattr(importlib.import_module(library), name))
    return tuple(errors)


def reason(error: BaseException) -> str:
    """What an error says, which may be several lines or nothing, in one."""
    said = " ".join(str(error).split())[:_LONGEST_REASON]
    return said or ("it timed out" if isinstance(error, TimeoutError) else type(error).__name__)


def _fetch(files: Any, source: str, target: Path, part: Path, state: dict[str, Any]) -> None:
    """Goes on with `part`, and when it is whole makes it `target`."""
    if not state:  # of this file system nothing is known before it is asked for the file
        files.get_file(source, str(part))
    else:
        if _recorded(target) != state:
            part.unlink(missing_ok=True)
            _record(target).write_text(json.dumps(state), encoding="utf-8")
        try:
            _append(files, source, part, state, block_size=BLOCK, cache_type="none")
        except ValueError:  # a server that sends files only from their beginning, whole
            part.unlink(missing_ok=True)
            _append(files, source, part, state, block_size=0)
    os.replace(part, target)


def _append(files: Any, source: str, part: Path, state: dict[str, Any], **options: Any) -> None:
    size = state.get("size")
    with files.open(source, "rb", **options) as remote, part.open("ab") as local:
        _claim(local, source)
        done = local.tell()
        if done:
            remote.seek(done)
        bar = ProgressBar(
            total=size, initial=done, desc=target_name(source), unit="B", unit_scale=True, disable=None
        )
        with bar:
            while block := remote.read(BLOCK):
                local.write(block)
                local.flush()
                bar.update(len(block))
        if size is not None and local.tell() != size:
            raise OSError(f"it ended after {local.tell()} of {size} bytes")


def _claim(file: BinaryIO, source: str) -> None:
    """Raises OSError if another process is writing to the same file."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise OSError(f"another process is fetching {target_name(source)}; wait for it") from error


def target_name(source: str) -> str:
    """The last part of a path."""
    return source.rstrip("/").rpartition("/")[2]


def _state(files: Any, source: str) -> dict[str, Any] | None:
    """What tells this state of a remote file from others: None if there is no file, empty if unknown."""
    try:
        info = files.info(source)
    except NotImplementedError:
        return {}
    except FileNotFoundError as error:
        # Of a web server fsspec says so whatever went wrong.
        cause = error.__cause__
        if cause is None or isinstance(cause, FileNotFoundError) or getattr(cause, "status", None) == 404:
            return None
        raise cause from None
    if info.get("type") == "directory":
        return None
    known = {key: info[key] for key in _STATES if info.get(key) is not None}
    return {key: value if key == "size" else str(value) for key, value in known.items()}


def _record(target: Path) -> Path:
    return target.with_name(target.name + _RECORD)


def _recorded(target: Path) -> Any:
    try:
        return json.loads(_record(target).read_bytes())
    except (OSError, ValueError):
        return None


def _kept(part: Path) -> str:
    """What is said of a file that came in part."""
    size = part.stat().st_size if part.exists() else 0
    return f"; the {size:,} bytes that came are kept, and the same command goes on from there" if size else ""
