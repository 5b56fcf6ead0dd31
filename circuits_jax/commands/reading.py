"""What people type in flags, as the values that the library takes: prompts, edits, positions, numbers."""

import os
from collections.abc import Mapping, Sequence

from absl import flags

from circuits_jax.circuits.ablation.edits import Edit, parse_edit
from circuits_jax.config import ModelConfig
from circuits_jax.model.generate import check_prompt
from circuits_jax.model.model import Model
from circuits_jax.storage.errors import ConfigError

# Of the flags that name edits: an example, and the sign that no other has.
EXAMPLES = {"set": "--set=1.mlp.post_act.40=0", "ablate": "--ablate=1.attn.v.12:mean"}
_SIGNS = {"set": "=", "ablate": ":"}


def define_prompt() -> None:
    """Defines --prompt and --tokens."""
    flags.DEFINE_string("prompt", None, "Text that the model reads.")
    flags.DEFINE_list("tokens", None, "Token ids that it reads instead of --prompt: 5,3,9.")


def read_prompt(model: Model) -> list[int]:
    """The token ids of the prompt that --prompt gives as text or --tokens as ids.

    Raises:
      ConfigError: if there are none, both, too many, or ids that the model has not.
    """
    text, ids = _prompt_text(), flags.FLAGS.tokens
    if (text is None) == (ids is None):
        raise ConfigError("give a prompt: --prompt=TEXT or, as token ids, --tokens=5,3,9")
    if ids is not None:
        prompt = _numbers("tokens", ids)
    elif text is None or model.tokenizer is None:
        raise ConfigError(f"no tokenizer lies beside {model.name}; give the prompt as ids, --tokens=5,3,9")
    else:
        prompt = model.tokenizer.encode(text)
    check_prompt(prompt, model.config)
    return prompt


def read_edits(texts: Mapping[str, Sequence[str]], config: ModelConfig) -> list[Edit]:
    """What the flags --set and --ablate name, {flag: its values, each one edit or several with commas}.

    Raises:
      ConfigError: for a text of another form, or a node that the model has not.
    """
    edits = []
    for flag, values in texts.items():
        for text in ",".join(values).split(",") if values else ():
            if _SIGNS[flag] not in text:
                raise ConfigError(f"--{flag}={text} lacks a {_SIGNS[flag]!r}; write {EXAMPLES[flag]}")
            edits.append(parse_edit(text, config))
    return edits


def read_positions(flag: str, length: int) -> list[int]:
    """Of a flag that says `all`, `last` or a list of positions, negative ones counted from the end.

    Args:
      flag: Its name.
      length: Of the prompt.

    Raises:
      ConfigError: if it is none of these, or a position is outside the prompt.
    """
    text = str(flags.FLAGS[flag].value)
    if text == "all":
        return list(range(length))
    try:
        chosen = [-1] if text == "last" else [int(each) for each in text.split(",")]
    except ValueError as error:
        raise ConfigError(f"--{flag} is {text!r}; choose all, last, or positions such as 0,3,-1") from error
    for each in chosen:
        if not -length <= each < length:
            raise ConfigError(f"--{flag} names position {each}; the prompt has 0 to {length - 1}")
    return [each % length for each in chosen]


def read_numbers(flag: str) -> list[int]:
    """Of a flag that lists whole numbers.

    Raises:
      ConfigError: if one is none.
    """
    return _numbers(flag, flags.FLAGS[flag].value or [])


def _numbers(flag: str, texts: Sequence[str]) -> list[int]:
    try:
        return [int(text) for text in texts]
    except ValueError as error:
        raise ConfigError(f"--{flag}={','.join(texts)} holds something that is no number") from error


def _prompt_text() -> str | None:
    """The text of --prompt, which is UTF-8 whatever the terminal's encoding is.

    Raises:
      ConfigError: for bytes that are no text.
    """
    given = flags.FLAGS.prompt
    try:
        return None if given is None else os.fsencode(given).decode("utf-8")
    except UnicodeDecodeError as error:
        raise ConfigError(
            f"--prompt holds the byte {error.object[error.start]:#04x}, which is no UTF-8; give text in "
            "UTF-8, or --tokens"
        ) from error
