"""Binary next-token tasks: pairs of prompts, their loss and accuracy."""

from circuits_jax.tasks.builtin.table import TASKS
from circuits_jax.tasks.files import find_task, get_task, is_file, load_recorded, load_task, remember
from circuits_jax.tasks.task import Pairs, Task, build_pairs
from circuits_jax.tasks.template import TaskError, Template, skeleton

__all__ = [
    "TASKS",
    "Pairs",
    "Task",
    "TaskError",
    "Template",
    "build_pairs",
    "find_task",
    "get_task",
    "is_file",
    "load_recorded",
    "load_task",
    "remember",
    "skeleton",
]
