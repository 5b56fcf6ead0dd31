"""Flags that name folders and files: several with commas between them, and a folder for what is written."""

from pathlib import Path
from typing import Any

from absl import flags

from circuits_jax.storage.errors import ConfigError, UserError
from circuits_jax.storage.paths import as_path, exists, is_remote


def define_names(flag: str, default: list[str] | None, what: str) -> None:
    """Defines a flag of names with commas between them, some of which may be paths that hold commas."""
    flags.DEFINE(_Names(), flag, default, what, serializer=flags.CsvListSerializer(","))


class _Names(flags.ListParser):
    """Parts of an argument between commas; those that together are the path of what is there are one."""

    def parse(self, argument: Any) -> list[str]:
        """The names."""
        parts = argument.split(",") if isinstance(argument, str) else []
        names = []
        while parts:
            count = next((n for n in range(len(parts), 0, -1) if _is_there(",".join(parts[:n]))), 1)
            names.append(",".join(parts[:count]))
            del parts[:count]
        paths = any("," in name or '"' in name and _is_there(name) for name in names)
        return names if paths else super().parse(argument)


def _is_there(name: str) -> bool:
    """Whether something of that name is on disk."""
    try:
        return bool(name) and not is_remote(name) and exists(as_path(name))
    except UserError:
        return False


def refuse_empty() -> None:
    """Refuses flags that are given without a value, as a shell does of a variable that is not set.

    An empty path would be the current folder, or what is read by default.

    Raises:
      ConfigError: for the first one.
    """
    for name in flags.FLAGS:
        if "." not in name and flags.FLAGS[name].present and flags.FLAGS[name].value in ("", []):
            raise ConfigError(f"--{name} is empty; give it a value (. for this folder), or leave it out")


def define_out_folder(what: str) -> None:
    """Defines --out as a folder, for the commands that write several files beside what they look at."""
    flags.DEFINE_string("out", None, f"Folder for {what}, which may be a colleague's.")


def out_folder() -> Path | None:
    """The folder that --out names, if it is given."""
    given = flags.FLAGS.out
    return None if given is None else as_path(given)
