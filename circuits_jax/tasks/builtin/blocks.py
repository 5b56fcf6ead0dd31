"""Many templates of one task: prompts that go on alike, at whatever depth they stand."""

from circuits_jax.tasks.template import Template, skeleton

BODY = "\1"  # in an `after`: the indentation of the block that the prompt's last line opens


def templates(after: str, *prompts: str) -> tuple[Template, ...]:
    """A template of each of `prompts`, all of which go on with `after`.

    Args:
      after: The right continuation, in which BODY is the indentation of a body.
      prompts: Texts for `skeleton`.
    """
    return tuple(skeleton(prompt, after.replace(BODY, _deeper(prompt))) for prompt in prompts)


def in_try(template: Template) -> Template:
    """`template`, whose prompts open a `try` at the margin, with what a `try` must end with."""
    a, b = (after + "except ValueError:\n    pass\n" for after in template.continuations)
    return Template(template.prompts, (a, b))


def _deeper(prompt: str) -> str:
    last = prompt.rpartition("\n")[2]
    return last[: len(last) - len(last.lstrip())] + "    "
