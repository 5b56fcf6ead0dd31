"""Paths in buckets, with the methods of `pathlib.Path` that the library uses, and errors that say what to do.

Everything goes through fsspec.  Listings are not kept, because other machines write to the same bucket.
"""

import errno
import fnmatch
import functools
import io
import logging
import os
import secrets
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePosixPath
from typing import IO, Any, NamedTuple, TypeVar

import fsspec
import fsspec.asyn

from circuits_jax.storage.errors import BucketError, ConfigError

_T = TypeVar("_T")


class Store(NamedTuple):
    """A kind of bucket.

    Attributes:
      extra: The extra of this package that brings the library for it.
      make: How a bucket is made.
      reading, writing: What an account needs to be allowed, to read and to write.
      login: How an account is named.
    """

    extra: str
    make: str
    reading: str
    writing: str
    login: str


BUCKETS = {
    "gs://": Store(
        "gcs",
        "gcloud storage buckets create",
        "the role roles/storage.objectViewer",
        "the role roles/storage.objectUser",
        "gcloud auth application-default login, or GOOGLE_APPLICATION_CREDENTIALS",
    ),
    "s3://": Store(
        "s3",
        "aws s3 mb",
        "a role that allows s3:ListBucket and s3:GetObject",
        "a role that allows s3:ListBucket, s3:GetObject, s3:PutObject and s3:DeleteObject",
        "aws configure, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
    ),
}


_REMOVERS = 16  # threads; an answer takes a tenth of a second or so
# Names of the libraries' errors, and what they say: no account is given; it is not known or not allowed to.
_WITHOUT_ACCOUNT = ("NoCredentialsError", "PartialCredentialsError", "DefaultCredentialsError")
_REFUSALS = (
    *("Forbidden", "Access Denied", "AccessDenied", "InvalidAccessKeyId", "SignatureDoesNotMatch"),
    *("ExpiredToken", "RefreshError"),
)


_ERRORS = {FileNotFoundError: errno.ENOENT, FileExistsError: errno.EEXIST}
_seen: set[str] = set()  # buckets that are there


def scheme_of(name: str) -> str | None:
    """The scheme of a bucket's name, of BUCKETS, or None; `gs:/bucket` is what pathlib makes of one."""
    return next((scheme for scheme in BUCKETS if name.startswith(scheme[:-1])), None)


class BucketPath(PurePosixPath):
    """An object of a bucket, or all objects below a name, which stands for a folder.

    Reading and writing raise OSError as `pathlib.Path` does, and BucketError where the bucket itself is
    missing, closed to the account, or out of reach.
    """

    __slots__ = ()

    @classmethod
    def of(cls, name: str) -> "BucketPath":
        """The path that `gs://...` or `s3://...` names.

        Raises:
          ConfigError: if no bucket is named, or the library for it is not installed.
        """
        scheme = scheme_of(name)
        if scheme is None or not name[len(scheme) - 1 :].strip("/"):
            raise ConfigError(f"{name} names no bucket; write gs://BUCKET/FOLDER or s3://BUCKET/FOLDER")
        try:
            fsspec.get_filesystem_class(scheme.removesuffix("://"))
        except ImportError as error:
            install = f"pip install 'circuits_jax[{BUCKETS[scheme].extra}]'"
            raise ConfigError(f"{name} needs a library for {scheme}; {install}") from error
        return cls(f"{scheme[:-2]}/{name[len(scheme) - 1 :].strip('/')}")

    @property
    def scheme(self) -> str:
        """`gs://` or `s3://`."""
        return f"{self.parts[0]}//"

    @property
    def bucket(self) -> str:
        """The bucket's name."""
        return self.parts[1]

    def __str__(self) -> str:
        if not self.parts or f"{self.parts[0]}//" not in BUCKETS:  # relative to another one
            return super().__str__()
        return f"{self.parts[0]}//{'/'.join(self.parts[1:])}"

    def __fspath__(self) -> str:
        return str(self)

    def __repr__(self) -> str:
        return f"BucketPath({str(self)!r})"

    def as_posix(self) -> str:
        """The same as its text."""
        return str(self)

    def absolute(self) -> "BucketPath":
        """Itself."""
        return self

    def resolve(self, strict: bool = False) -> "BucketPath":
        """Itself."""
        del strict
        return self

    def exists(self) -> bool:
        """Whether there is such an object, or any below it."""
        return self._kind() is not None

    def is_dir(self) -> bool:
        """Whether there are objects below it."""
        return self._kind() == "directory"

    def is_file(self) -> bool:
        """Whether there is such an object."""
        return self._kind() == "file"

    def iterdir(self) -> Iterator["BucketPath"]:
        """What lies directly below it; nothing if nothing does."""
        try:
            found = self._call(lambda files: files.ls(self.key, detail=False))
        except FileNotFoundError:
            return
        for name in sorted({name.rstrip("/").rpartition("/")[2] for name in found}):
            if name and name != self.name:
                yield self / name

    def glob(self, pattern: str) -> Iterator["BucketPath"]:
        """What matches a pattern of names, without `**`; the path itself is taken as it is written."""
        first, _, rest = pattern.partition("/")
        if any(sign in first for sign in "*?["):
            found = [each for each in self.iterdir() if fnmatch.fnmatchcase(each.name, first)]
        else:
            found = [self / first]
        for each in found:
            if rest:
                yield from each.glob(rest)
            elif each.exists():
                yield each

    def read_bytes(self) -> bytes:
        """The object's content."""
        return self._call(lambda files: files.cat_file(self.key))

    def read_text(self, encoding: str | None = None) -> str:
        """The object's content as text, UTF-8 by default."""
        return self.read_bytes().decode(encoding or "utf-8")

    def write_bytes(self, data: bytes) -> int:
        """Makes the object, whole or not at all; returns the number of bytes."""
        self._call(lambda files: files.pipe_file(self.key, bytes(data)), writing=True)
        return len(data)

    def write_text(self, text: str, encoding: str | None = None) -> int:
        """Makes the object of text, UTF-8 by default."""
        return self.write_bytes(text.encode(encoding or "utf-8"))

    def create(self, data: bytes) -> None:
        """Makes the object, unless there is one: of several machines that try, one succeeds.

        Raises:
          FileExistsError: if there is one.
        """
        self._call(lambda files: files.pipe_file(self.key, data, mode="create"), writing=True)

    def open(self, mode: str = "r") -> IO[Any]:
        """The object's content as an open file; for reading only."""
        if mode not in ("r", "rb"):
            raise ValueError(f"an object of a bucket is written whole; there is no mode {mode!r}")
        content = io.BytesIO(self.read_bytes())
        return content if mode == "rb" else io.TextIOWrapper(content, encoding="utf-8")

    def get(self, target: Path) -> None:
        """Copies the object into a local file."""
        self._call(lambda files: files.get_file(self.key, str(target)))

    def put(self, source: Path) -> None:
        """Makes the object from a local file."""
        self._call(lambda files: files.put_file(str(source), self.key), writing=True)

    def download(self, target: Path) -> None:
        """Copies all objects below it into a local folder."""
        names = self.names()
        places = [target / name for name in names]
        for folder in {place.parent for place in places}:
            folder.mkdir(parents=True, exist_ok=True)
        sources, targets = [f"{self.key}/{name}" for name in names], [str(place) for place in places]
        self._call(lambda files: files.get(sources, targets) if names else None)

    def upload(self, source: Path) -> None:
        """Makes an object below it of every file in a local folder."""
        places = sorted(place for place in source.rglob("*") if place.is_file())
        names = [f"{self.key}/{place.relative_to(source).as_posix()}" for place in places]
        sources = [str(place) for place in places]
        self._call(lambda files: files.put(sources, names) if names else None, writing=True)

    def names(self) -> list[str]:
        """Names of all objects below it, relative to it."""
        prefix = f"{self.key}/"
        try:
            found = self._call(lambda files: files.find(self.key))
        except FileNotFoundError:
            return []
        return sorted(name.removeprefix(prefix) for name in found if name.startswith(prefix))

    def rename(self, target: "BucketPath") -> "BucketPath":
        """Moves all objects below it, one after another; returns `target`."""
        for name in self.names():
            old, new = self / name, target / name
            self._call(lambda files, a=old.key, b=new.key: files.cp_file(a, b), writing=True)  # type: ignore[misc]
            old.unlink()
        return target

    def rmtree(self) -> None:
        """Removes all objects below it."""
        with ThreadPoolExecutor(_REMOVERS) as pool:  # fsspec's own `rm` takes names for patterns
            list(pool.map(lambda name: (self / name).unlink(missing_ok=True), self.names()))

    def mkdir(self, mode: int = 0o777, parents: bool = False, exist_ok: bool = False) -> None:
        """Makes nothing, as buckets have no folders, but finds out if objects can be made and removed."""
        del mode, parents, exist_ok
        _check_writable(self)

    def unlink(self, missing_ok: bool = False) -> None:
        """Removes the object."""
        try:
            self._call(lambda files: files.rm_file(self.key), writing=True)
        except FileNotFoundError:
            if not missing_ok:
                raise

    @property
    def file_system(self) -> Any:
        """The file system of fsspec that it is in."""
        return _file_system(self.scheme)

    @property
    def key(self) -> str:
        """What it is called there: bucket and name."""
        return "/".join(self.parts[1:])

    def _kind(self) -> str | None:
        try:
            return self._call(lambda files: files.info(self.key))["type"]
        except FileNotFoundError:
            return None

    def _call(self, action: Callable[[Any], _T], writing: bool = False) -> _T:
        """What `action` gives for the file system of the bucket, and errors as a person can read them."""
        try:
            return action(self.file_system)
        except Exception as error:  # each library, and those below it, has its own
            explain_refusal(error, self, writing)
            number = next((number for kind, number in _ERRORS.items() if isinstance(error, kind)), None)
            if number is not None:
                raise type(error)(number, os.strerror(number), str(self)) from error
            if isinstance(error, OSError):
                raise
            said = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
            raise OSError(errno.EIO, said, str(self)) from error


def explain_refusal(error: Exception, path: BucketPath, writing: bool = False) -> None:
    """Returns if `error`, of a library for buckets, is not about the whole bucket or its account.

    Raises:
      BucketError: else, as one line: what is wrong, for whom, and what to do.
    """
    store, name = BUCKETS[path.scheme], f"{path.scheme}{path.bucket}"
    said = " ".join(str(error).split())[:200] or type(error).__name__
    if isinstance(error, FileNotFoundError):
        if not _is_there(path):
            raise BucketError(
                f"there is no bucket {name} (404); correct its name, or make it: {store.make} {name}"
            ) from error
    elif type(error).__name__ in _WITHOUT_ACCOUNT:
        raise BucketError(f"{name} cannot be opened without an account ({said}); {store.login}") from error
    elif _is_refusal(error, said):
        doing, needed = ("writing", store.writing) if writing else ("reading", store.reading)
        raise BucketError(
            f"{name} refuses {_account(path)} (403: {said}): {doing} needs {needed} on that bucket; grant "
            f"it, or choose another account: {store.login}"
        ) from error


def _file_system(scheme: str) -> Any:
    logging.getLogger("gcsfs").setLevel(logging.CRITICAL)  # it prints a trace of what it also raises
    return fsspec.filesystem(scheme.removesuffix("://"), use_listings_cache=False)


def _is_there(path: BucketPath) -> bool:
    """Whether there is such a bucket, as far as the account may know."""
    name = f"{path.scheme}{path.bucket}"
    if name not in _seen:
        try:
            path.file_system.ls(path.bucket, detail=False)  # `info` of some s3fs misses empty ones
        except FileNotFoundError:
            return False
        except Exception:  # an account may be allowed to use a bucket's objects and not to look at the bucket
            pass
        _seen.add(name)
    return True


@functools.cache
def _check_writable(folder: BucketPath) -> None:
    """Raises BucketError if objects below `folder` cannot be made and removed."""
    trial = folder / f".trial-{secrets.token_hex(8)}"
    trial.write_bytes(b"may objects be made and removed here?")
    trial.unlink()


def _is_refusal(error: Exception, said: str) -> bool:
    """Whether an error says 401 or 403: that an account is not known, or not allowed to do something."""
    code = str(getattr(error, "code", getattr(error, "status", "")))
    return (
        isinstance(error, PermissionError)
        or code in ("401", "403")
        or any(sign in said or sign in type(error).__name__ for sign in _REFUSALS)
    )


def _account(path: BucketPath) -> str:
    """The account that a bucket is opened with, as far as it is known."""
    files = path.file_system
    try:
        if path.scheme == "s3://":
            return f"the access key {fsspec.asyn.sync(files.loop, files.session.get_credentials).access_key}"
        found = files.credentials.credentials
        names = (getattr(found, name, None) for name in ("service_account_email", "signer_email", "account"))
        return f"the account {next(name for name in names if name)}"
    except Exception:  # the insides of libraries, which differ between versions
        return "this account"
