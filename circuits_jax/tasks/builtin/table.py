"""The twenty tasks by name, in the order of docs/tasks.md, "The twenty tasks"."""

from circuits_jax.storage.errors import TaskError
from circuits_jax.tasks.builtin import conditions, delimiters, headers, variables
from circuits_jax.tasks.task import Task

_ALL = (
    delimiters.SINGLE_DOUBLE_QUOTE,
    delimiters.BRACKET_COUNTING,
    variables.SET_OR_STRING,
    variables.SET_OR_STRING_FIXEDVARNAME,
    delimiters.WITH_AS,
    variables.WITH_OPEN,
    headers.FOR_WHILE,
    conditions.ELSE_ELIF,
    conditions.IF_TERNARY,
    conditions.IF_EQUALS,
    delimiters.FSTRING_BRACE,
    delimiters.BRACKET_BRACE,
    variables.VAR_SWAP,
    variables.VAR_IF,
    headers.INDENT_FOR,
    delimiters.WHILE_RETURN_TRUE,
    delimiters.LAMBDA_FUNC,
    headers.ENUMERATE_RANGE,
    delimiters.FINAL_KWARG,
    headers.CLASS_INIT,
)


class UnknownTaskError(TaskError, KeyError):
    """A name that no built-in task has; it names those that there are."""

    def __str__(self) -> str:
        return str(self.args[0])  # a KeyError's own has quotes around it


class Tasks(dict[str, Task]):
    """Tasks by name; an unknown name raises an UnknownTaskError."""

    def __missing__(self, name: str) -> Task:
        raise UnknownTaskError(
            f"unknown task {name!r}; choose one of {', '.join(self)}, or a file of your own ending in .py or "
            ".jsonl (cj.load_task)"
        )


TASKS = Tasks((task.name, task) for task in _ALL)
"""The built-in tasks; an unknown name raises an UnknownTaskError."""
