"""Folders and files by name, on a disk or in a bucket: every name that a person gives passes `as_path`."""

import glob
import os
from pathlib import Path
from typing import cast

from circuits_jax.storage.buckets import BUCKETS, BucketPath, scheme_of
from circuits_jax.storage.errors import ConfigError, check_kind


def as_path(name: str | os.PathLike[str]) -> Path:
    """`name` as an absolute path, which stays the same when the working directory changes.

    `~` and `~user` stand for home folders, as in a shell; `./~` is a folder of that name.  What else a name
    holds means itself: spaces, quotes and the signs of patterns.  A bucket's name gives a path with the same
    methods.

    Raises:
      ConfigError: for another URL than a bucket's, a home folder that nobody has, or a bucket whose library
        is not installed.
    """
    check_kind("the path", name, (str, os.PathLike), "a name, or a pathlib.Path")
    text = os.fspath(name)
    if scheme_of(text) is not None:
        return cast(Path, BucketPath.of(text))
    if "://" in text:
        raise ConfigError(f"{text} cannot be used here; name a folder, or a bucket's: {', '.join(BUCKETS)}")
    if "\0" in text:
        raise ConfigError(f"{text!r} holds a zero byte, which no name of a file can; give another name")
    expanded = os.path.expanduser(text)
    if text.startswith("~") and expanded == text and not os.path.lexists(text.partition(os.sep)[0]):
        raise ConfigError(f"{text}: there is no such home folder; give the whole path")
    try:
        return Path(expanded).absolute()
    except FileNotFoundError as error:
        raise ConfigError("the working directory is gone; change to one that exists") from error


def is_remote(path: str | os.PathLike[str]) -> bool:
    """Whether `path` is in a bucket, or another URL, rather than in a file system."""
    text = os.fspath(path)
    return "://" in text or scheme_of(text) is not None


def may_be_folder(name: str) -> bool:
    """Whether a person may mean a folder of ours by `name`: on disk or in a bucket, but of no other URL."""
    return "://" not in name or scheme_of(name) is not None


def names_a_folder(name: str) -> bool:
    """Whether a folder can be called `name` on every disk: no path, not hidden, on one line, in UTF-8."""
    halves = any("\ud800" <= character <= "\udfff" for character in name)
    return bool(name) and not name.startswith(".") and not set(name) & set("/\\,\n\0") and not halves


def exists(path: Path) -> bool:
    """Whether `path` is there and may be looked at: a name can also be too long, or a folder closed to us."""
    try:
        return path.exists()
    except OSError:
        return False


def is_folder(path: Path) -> bool:
    """Whether `path` is a folder that may be looked at."""
    try:
        return path.is_dir()
    except OSError:
        return False


def matching(pattern: str) -> list[str]:
    """The files and folders on disk that a shell's pattern names, sorted; `**` stands for any folders.

    A leading part that is there as it is written means itself, even if it holds the signs of a pattern.

    Raises:
      ConfigError: for what does not lie on disk.
    """
    if is_remote(pattern):
        raise ConfigError(f"{pattern} must lie on disk; copy it there, and name the copy")
    parts = str(as_path(pattern)).split(os.sep)
    literal = 1
    while literal < len(parts) and os.path.lexists(os.sep.join(parts[: literal + 1])):
        literal += 1
    escaped = [glob.escape(part) for part in parts[:literal]]
    return sorted(glob.glob(os.sep.join(escaped + parts[literal:]), recursive=True))
