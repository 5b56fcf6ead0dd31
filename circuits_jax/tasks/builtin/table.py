"""The twenty tasks by name, in the order of docs/tasks.md, "The twenty tasks"."""

from circuits_jax.tasks.builtin import delimiters, keywords, variables
from circuits_jax.tasks.task import Task

_ALL = (
    delimiters.SINGLE_DOUBLE_QUOTE,
    delimiters.BRACKET_COUNTING,
    variables.SET_OR_STRING,
    variables.SET_OR_STRING_FIXEDVARNAME,
    delimiters.WITH_AS,
    variables.WITH_OPEN,
    keywords.FOR_WHILE,
    keywords.ELSE_ELIF,
    keywords.IF_TERNARY,
    keywords.IF_EQUALS,
    delimiters.FSTRING_BRACE,
    delimiters.BRACKET_BRACE,
    variables.VAR_SWAP,
    variables.VAR_IF,
    keywords.INDENT_FOR,
    delimiters.WHILE_RETURN_TRUE,
    delimiters.LAMBDA_FUNC,
    keywords.ENUMERATE_RANGE,
    delimiters.FINAL_KWARG,
    keywords.CLASS_INIT,
)

TASKS: dict[str, Task] = {task.name: task for task in _ALL}
"""The built-in tasks."""
