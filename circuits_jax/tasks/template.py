"""Skeletons of contrast pairs: one string for both prompts, with slots that words fill.

    skeleton("$pad\\n$n0 = «[[|[»$d0, $d1], [$d2, $d3", after="«]]|]»\\n")

`«A|B»` is what differs between prompt A and prompt B, `$n0` a slot that a word of kind `n` fills (kinds
in `data.programs.words`; different slots get different words), `$pad` a comment that is made longer in the
shorter prompt, so that both have the same number of tokens and their tails align position by position.
`after` is the right continuation.
"""

import dataclasses
import re
import string
from collections.abc import Mapping

import numpy as np

from circuits_jax.model.tokenizer import Tokenizer
from circuits_jax.storage.errors import TaskError

_FORK = re.compile(r"«([^«|»]*)\|([^«|»]*)»")
_PAD = "\udbff"  # stands for $pad in a filled template: half a character, which no text holds


@dataclasses.dataclass(frozen=True)
class Template:
    """Texts of prompt A and prompt B and of their right continuations, with `$` slots.

    Attributes:
      prompts: Of A and of B.
      continuations: Of A and of B.
      group: Templates of one group count as one, and stand in one split; "" is a group of its own.
    """

    prompts: tuple[str, str]
    continuations: tuple[str, str]
    group: str = ""

    def __post_init__(self) -> None:
        for text in self.prompts + self.continuations:
            if not string.Template(text).is_valid():
                raise TaskError(f"a template has a $ that is no slot: {text!r}; write $$ for a dollar sign")
            if not is_text(text):
                raise TaskError(f"a template holds half a character: {text!r}; write whole ones")

    @property
    def padded(self) -> bool:
        """Whether both prompts have a comment that may be lengthened."""
        return all("pad" in string.Template(prompt).get_identifiers() for prompt in self.prompts)

    def slots(self) -> set[str]:
        """Names of the slots, without `$`; `pad` is none."""
        text = "".join(self.prompts + self.continuations)
        return set(string.Template(text).get_identifiers()) - {"pad"}


def is_text(text: str) -> bool:
    """Whether `text` can be written as UTF-8: it holds no half of a character."""
    return not any("\ud800" <= character <= "\udfff" for character in text)


def skeleton(prompt: str, after: str) -> Template:
    """A template from one text for both prompts, `«A|B»` marking where they differ."""

    def fork(text: str) -> tuple[str, str]:
        return _FORK.sub(r"\1", text), _FORK.sub(r"\2", text)

    return Template(fork(prompt), fork(after))


def single_pieces(words: tuple[str, ...], tokenizer: Tokenizer) -> tuple[str, ...]:
    """Those of `words` that are one token both alone and after a space."""
    return tuple(
        word for word in words if len(tokenizer.encode(word)) == 1 and len(tokenizer.encode(" " + word)) == 1
    )


@dataclasses.dataclass(frozen=True)
class Filled:
    """A filled template; `$pad` is still open in the prompts.

    Attributes:
      prompts, continuations: Of A and of B.
      padding: Words for comments; none where no comment may be lengthened.
      share: In [0, 1): how many words both comments have, of as many as they may.
      template: The template's number.
    """

    prompts: tuple[str, str]
    continuations: tuple[str, str]
    padding: tuple[str, ...]
    share: float
    template: int = 0


def fill(template: Template, pool: Mapping[str, tuple[str, ...]], rng: np.random.RandomState) -> Filled:
    """Fills every slot but `$pad`; slots of one kind get different words."""
    slots = sorted(template.slots())
    values: dict[str, str] = {"pad": _PAD}
    for kind in sorted({slot[0] for slot in slots}):
        names = [slot for slot in slots if slot[0] == kind]
        chosen = rng.permutation(len(pool[kind]))[: len(names)]
        values |= {name: pool[kind][index] for name, index in zip(names, chosen, strict=True)}

    def substitute(text: str) -> str:
        return string.Template(text).substitute(values)

    padding = tuple(pool["w"][index] for index in rng.permutation(len(pool["w"]))) if template.padded else ()
    share = float(rng.random_sample())
    a, b = template.prompts
    c, d = template.continuations
    return Filled((substitute(a), substitute(b)), (substitute(c), substitute(d)), padding, share)


def with_padding(text: str, texts: Filled, number: int) -> str:
    """`text` with `$pad` as a comment of so many words."""
    repeated = (texts.padding * (number // max(1, len(texts.padding)) + 1))[:number]
    return text.replace(_PAD, "# " + " ".join(repeated))
