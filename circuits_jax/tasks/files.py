"""Tasks of the user's own: a Python file that defines one, or a JSONL file of pairs."""

import dataclasses
import hashlib
import importlib.util
import json
import pathlib
import sys
from collections.abc import Iterable
from typing import Any

from circuits_jax.data.programs.words import SPLITS
from circuits_jax.storage.lfs import refuse_pointer
from circuits_jax.tasks.builtin.table import TASKS
from circuits_jax.tasks.task import Task
from circuits_jax.tasks.template import TaskError, Template

_KEYS = ("a", "b", "answer_a", "answer_b")


def get_task(name: str) -> Task:
    """The built-in task called `name`, or the task in the file `name` (.py or .jsonl).

    Raises:
      TaskError: for an unknown name, naming all tasks; or a file that holds no task.
    """
    if name in TASKS:
        return TASKS[name]
    if name.endswith((".py", ".jsonl")):
        return load_task(name)
    raise TaskError(
        f"unknown task {name!r}; choose one of {', '.join(TASKS)}, "
        "or a file of your own ending in .py or .jsonl"
    )


def find_task(name: str, given: Iterable[str]) -> Task:
    """The task that a circuit called `name` is for: a built-in one, or that of a file among `given`.

    Args:
      name: The task's name, without folder or ending.
      given: Names and files as on the command line, such as `prune.tasks`.

    Raises:
      TaskError: if it is neither, or its file cannot be read.
    """
    if name in TASKS:
        return TASKS[name]
    files = [each for each in given if each.endswith((".py", ".jsonl"))]
    for file in files:
        if _is_file(pathlib.Path(file)) and (task := load_task(file)).name == name:
            return task
    looked = f" (looked for it in {', '.join(files)})" if files else ""
    raise TaskError(
        f"task {name!r} is not built in, and its file is not there{looked}; "
        "prune a task that was read from a file (--tasks=FILE, load_task(FILE)), and keep the file"
    )


def load_task(path: str | pathlib.Path) -> Task:
    """Reads a task from a file; its built-in words and rules hold there too.

    A `.py` file defines exactly one `Task` at top level.  A `.jsonl` file has one pair a line:
    `{"a": prompt, "b": prompt, "answer_a": text, "answer_b": text}`, the answers being the right
    continuations, with an optional `"split"`: "train" or "heldout" (default: three quarters train, by
    hash of the line).  The file's stem is the task's name.

    Raises:
      TaskError: for a file that cannot be read or holds no task, naming the line.
    """
    path = pathlib.Path(path)
    if not _is_file(path):
        raise TaskError(f"task file {path} does not exist; give a .py or .jsonl file")
    if path.suffix == ".py":
        return dataclasses.replace(_from_python(path), file=str(path))
    if path.suffix == ".jsonl":
        return dataclasses.replace(_from_jsonl(path), file=str(path))
    raise TaskError(f"task file {path} ends in {path.suffix!r}; it must be .py or .jsonl")


def _is_file(path: pathlib.Path) -> bool:
    """Whether a file is there; a name can also be too long, or in a folder that is closed to us."""
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False


def _content(path: pathlib.Path) -> bytes:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise TaskError(f"task file {path} cannot be read: {error.strerror or error}") from error
    refuse_pointer(content, path, TaskError)
    return content


def _from_python(path: pathlib.Path) -> Task:
    """The one Task that the module at `path` defines."""
    _content(path)
    spec = importlib.util.spec_from_file_location(f"user_task_{path.stem}", path)
    if spec is None or spec.loader is None:
        raise TaskError(f"task file {path} cannot be imported as Python")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up there
    try:
        spec.loader.exec_module(module)
    except TaskError:
        raise
    except (Exception, SystemExit) as error:  # the user's own code may raise whatever it likes
        raise TaskError(f"task file {path} fails when imported: {type(error).__name__}: {error}") from error
    tasks = {id(value): value for value in vars(module).values() if isinstance(value, Task)}
    if len(tasks) != 1:
        raise TaskError(f"task file {path} defines {len(tasks)} tasks at top level; define exactly one Task")
    return next(iter(tasks.values()))


def _from_jsonl(path: pathlib.Path) -> Task:
    """A task without slots: every line a template of its own."""
    templates: dict[str, list[Template]] = {split: [] for split in SPLITS}
    try:
        # Not splitlines: JSON strings may hold U+2028 and others of its line ends as they are.
        lines = _content(path).decode("utf-8-sig").split("\n")
    except UnicodeDecodeError as error:
        raise TaskError(f"task file {path} is not UTF-8: {error}") from error
    for number, line in enumerate(lines, 1):
        if line.strip():
            split, template = _read_line(line, f"{path} line {number}")
            templates[split].append(template)
    empty = [split for split in SPLITS if not templates[split]]
    if empty:
        raise TaskError(
            f'task file {path} has no {empty[0]} pair; add lines or give some of them "split": "{empty[0]}"'
        )
    return Task(
        path.stem,
        f"pairs of {path.name}",
        {split: tuple(found) for split, found in templates.items()},
        python=False,
    )


def _read_line(line: str, where: str) -> tuple[str, Template]:
    """One pair and its split."""
    try:
        row: Any = json.loads(line)
    except (json.JSONDecodeError, RecursionError) as error:
        raise TaskError(f"{where} is not JSON: {error}") from error
    if not isinstance(row, dict) or not all(isinstance(row.get(key), str) for key in _KEYS):
        raise TaskError(f"{where} must be an object with the strings {', '.join(_KEYS)}")
    try:
        digest = hashlib.sha256("\0".join(row[key] for key in _KEYS).encode()).digest()
    except UnicodeEncodeError as error:
        raise TaskError(f"{where} holds half a character: {error}") from error
    split = row.get("split", "heldout" if digest[0] < 64 else "train")
    if split not in SPLITS:
        raise TaskError(f"{where} has the split {split!r}; choose one of {', '.join(SPLITS)}")
    empty = [key for key in _KEYS if not row[key]]
    if empty:
        raise TaskError(
            f"{where} has an empty {empty[0]}; give the text of it, which the model reads or goes on with"
        )
    for first, second in (("a", "b"), ("answer_a", "answer_b")):
        if row[first] == row[second]:
            raise TaskError(f"{where} has the same text as {first} and as {second}; the two must differ")
    a, b, answer_a, answer_b = (row[key].replace("$", "$$") for key in _KEYS)
    return split, Template((a, b), (answer_a, answer_b))
