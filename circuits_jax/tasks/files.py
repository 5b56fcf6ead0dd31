"""Tasks of the user's own: a Python file that defines one, or a JSONL file of pairs.

A Python file is a program.  It runs where the user names it, and never because a circuit's folder, which may
be another person's, says where it lies.
"""

import dataclasses
import hashlib
import json
import os
import pathlib
import shlex
import sys
import types
from collections.abc import Collection, Iterable
from typing import Any, NamedTuple

from circuits_jax.data.programs.words import SPLITS
from circuits_jax.storage.errors import Stopped, check_kind
from circuits_jax.storage.lfs import refuse_pointer
from circuits_jax.storage.paths import as_path
from circuits_jax.tasks.builtin.table import TASKS
from circuits_jax.tasks.splits import BEFORE, split_by_hash
from circuits_jax.tasks.task import Task
from circuits_jax.tasks.template import TaskError, Template

_KEYS = ("a", "b", "answer_a", "answer_b")
_ENDINGS = (".py", ".jsonl")
_named: list[Task] = []  # tasks of files that were named in this process, the last one last


class _Line(NamedTuple):
    """One pair of a JSONL file: where it stands, its split if it says one, a hash of it or its group."""

    where: str
    split: str | None
    digest: bytes
    template: Template


def get_task(name: str) -> Task:
    """The built-in task called `name`, or the task in the file `name` (.py or .jsonl).

    Raises:
      TaskError: for an unknown name, naming all tasks; or a file that holds no task.
    """
    return load_task(name) if is_file(name) else TASKS[name]


def is_file(name: str) -> bool:
    """Whether a name on the command line is that of a file of a task, rather than a task's own."""
    return name.endswith(_ENDINGS)


def find_task(name: str, recorded: Iterable[str], named: Iterable[Task] = ()) -> Task:
    """The task that a circuit called `name` is for: built in, of a file that the user named, or of pairs in a
    JSONL file among `recorded`.

    Args:
      name: The task's name, without folder or ending.
      recorded: Names and files that the circuit was cut with, `prune.tasks`.  Python files of them do not
        run.
      named: Tasks of files that the user named, besides those of `load_task` and `remember` in this process.

    Raises:
      TaskError: if it is none of these, or its file cannot be read.
    """
    if name in TASKS:
        return TASKS[name]
    files = [each for each in recorded if is_file(each)]
    known = [task for task in (*_named, *named) if task.name == name]
    known.sort(key=lambda task: task.file in files)
    if known and known[-1].file in files:
        return known[-1]
    for file in files:
        if file.endswith(".jsonl") and _is_file(as_path(file)) and (task := _read(file)).name == name:
            return task
    if known:
        return known[-1]
    programs = [file for file in files if file.endswith(".py")]
    looked = f" (looked for it in {', '.join(files)})" if files else ""
    if programs:
        raise TaskError(
            f"task {name!r} is not built in, and its file is not there or not named{looked}; Python files "
            f"run only if you name them: look, then --tasks={shlex.quote(programs[-1])}, "
            f"or load_task({programs[-1]!r})"
        )
    raise TaskError(
        f"task {name!r} is not built in, and its file is not there{looked}; "
        "name its file in place of the task, and keep the file"
    )


def load_task(path: str | pathlib.Path) -> Task:
    """Reads a task from a file; its built-in words and rules hold there too.

    A `.py` file defines exactly one `Task` at top level.  A `.jsonl` file has one pair a line:
    `{"a": prompt, "b": prompt, "answer_a": text, "answer_b": text}`, the answers being the right
    continuations, with an optional `"split"`: "train", "select" or "test" (`tasks.splits.split_by_hash` says
    what is done without), and an optional `"template"`, a name: lines of one template go to one split.  The
    file's stem is the task's name.

    Raises:
      TaskError: for a file that cannot be read or holds no task, naming the line.
    """
    check_kind("the task's file", path, (str, os.PathLike), "its name; built-in tasks are in cj.TASKS")
    if str(path) in TASKS and not as_path(path).exists():
        raise TaskError(f"{path} is a built-in task and no file; write cj.TASKS[{str(path)!r}]")
    task = _read(path)
    remember(task)
    return task


def remember(task: Task) -> None:
    """Lets `find_task` know a task whose file the user named."""
    _named.append(task)


def load_recorded(path: str | pathlib.Path, digests: Collection[str] | None) -> Task:
    """`load_task` for a file that circuits were cut with: a Python file runs only if it is still the same.

    Args:
      path: As the user named it.
      digests: SHA-256 of the files that the circuits were cut with, in hex; None: it runs whatever it is.

    Raises:
      TaskError: as `load_task` does; or for a Python file that is none of them.
    """
    return _read(path, digests)


def _read(path: str | pathlib.Path, digests: Collection[str] | None = None) -> Task:
    path = as_path(path)
    if not _is_file(path):
        raise TaskError(f"task file {path} does not exist; give a .py or .jsonl file")
    if path.suffix not in _ENDINGS:
        raise TaskError(f"task file {path} ends in {path.suffix!r}; it must be .py or .jsonl")
    content = _content(path)
    digest = hashlib.sha256(content).hexdigest()
    if path.suffix == ".jsonl":
        task = _from_jsonl(path, content)
    elif digests is None or digest in digests:
        task = _from_python(path, content)
    else:
        known = ", ".join(sorted(each[:12] for each in digests)) or "none"
        raise TaskError(
            f"{path} does not run: no circuit here was cut with it (SHA-256 {digest[:12]}; theirs: {known}); "
            "look at it, and give --changed_tasks if it is to run all the same"
        )
    return dataclasses.replace(task, file=str(path), digest=digest)


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


def _from_python(path: pathlib.Path, content: bytes) -> Task:
    """The one Task that the program `content` of the file `path` defines.

    What runs is what was read, and no compiled file that may lie beside it.
    """
    module = types.ModuleType(f"user_task_{path.stem}")
    module.__file__ = str(path)
    sys.modules[module.__name__] = module  # dataclasses look their module up there
    try:
        exec(compile(content, str(path), "exec", dont_inherit=True), vars(module))
    except (TaskError, Stopped, KeyboardInterrupt):  # the last of a person who waits
        raise
    except BaseException as error:  # the user's own code may raise whatever it likes
        raise TaskError(f"task file {path} fails when imported: {type(error).__name__}: {error}") from error
    tasks = {id(value): value for value in vars(module).values() if isinstance(value, Task)}
    if len(tasks) != 1:
        raise TaskError(f"task file {path} defines {len(tasks)} tasks at top level; define exactly one Task")
    return next(iter(tasks.values()))


def _from_jsonl(path: pathlib.Path, content: bytes) -> Task:
    """A task without slots: every line, or group of lines, a template of its own."""
    try:
        # Not splitlines: JSON strings may hold U+2028 and others of its line ends as they are.
        texts = content.decode("utf-8-sig").split("\n")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise TaskError(f"task file {path}, line {line}, is not UTF-8: {error}") from error
    lines = [
        _read_line(text, f"{path} line {number}") for number, text in enumerate(texts, 1) if text.strip()
    ]
    templates = _by_split(lines)
    empty = [split for split in ("train", "test") if not templates[split]]
    if empty:
        groups = {line.template.group for line in lines}
        if len(groups) == 1 and "" not in groups:
            raise TaskError(
                f"all lines of task file {path} are of one template, {groups.pop()!r}, which goes to one "
                "split whole; give lines of three templates or more"
            )
        raise TaskError(
            f'task file {path} has no {empty[0]} pair; add lines or give some of them "split": "{empty[0]}"'
        )
    return Task(path.stem, f"pairs of {path.name}", templates, python=False)


def _by_split(lines: list[_Line]) -> dict[str, tuple[Template, ...]]:
    """The templates of each split, in the order of the lines; those of one group in the same split.

    Lines that are the same and do not say their split are one group, too.
    """
    names = [
        line.template.group or (line.digest if line.split is None else place)
        for place, line in enumerate(lines)
    ]
    groups: dict[str | int | bytes, list[_Line]] = {}
    for name, line in zip(names, lines, strict=True):
        groups.setdefault(name, []).append(line)
    said = []
    for name, members in groups.items():
        split, first = None, ""
        for line in members:
            if split is not None and line.split not in (None, split):
                raise TaskError(
                    f"{line.where} puts template {name!r} into split {line.split}, and {first} puts it into "
                    f"{split}; lines of one template go to one split"
                )
            if line.split is not None and split is None:
                split, first = line.split, line.where
        said.append(split)
    found = split_by_hash([members[0].digest for members in groups.values()], said)
    split_of = dict(zip(groups, found, strict=True))
    return {
        split: tuple(
            line.template for name, line in zip(names, lines, strict=True) if split_of[name] == split
        )
        for split in SPLITS
    }


def _read_line(line: str, where: str) -> _Line:
    """One pair, its split and its group."""
    try:
        row: Any = json.loads(line)
    except (ValueError, RecursionError) as error:  # the former also for a number of too many digits
        raise TaskError(f"{where} is not JSON: {error}") from error
    if not isinstance(row, dict) or not all(isinstance(row.get(key), str) for key in _KEYS):
        raise TaskError(f"{where} must be an object with the strings {', '.join(_KEYS)}")
    group, split = row.get("template"), row.get("split")
    if not isinstance(group, str | int | None) or isinstance(group, bool):
        raise TaskError(f"{where} has the template {group!r}; give its name or number, or none")
    group = "" if group is None else str(group)
    try:
        digest = hashlib.sha256((group or "\0".join(row[key] for key in _KEYS)).encode()).digest()
    except UnicodeEncodeError as error:
        raise TaskError(f"{where} holds half a character: {error}") from error
    split = "test" if split == BEFORE else split
    if split not in (None, *SPLITS):
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
    return _Line(where, split, digest, Template((a, b), (answer_a, answer_b), group))
