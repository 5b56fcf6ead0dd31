"""Filled templates as tokens: the rules that a pair keeps under a tokenizer (docs/tasks.md, "Rules")."""

import ast
import dataclasses

from circuits_jax.model.tokenizer import Tokenizer
from circuits_jax.tasks.template import Filled, with_padding

MIN_TOKENS, MAX_TOKENS = 10, 120  # of a prompt of templates; pairs as they are may be of any length
FEW = 3  # words that a comment has, where the prompts need none to be equally long
_SHOWN = 60  # characters of a prompt in a message


@dataclasses.dataclass(frozen=True)
class Encoded:
    """One pair that passed: both prompts' ids (equally many), the two answers, the texts, its template."""

    prompts: tuple[list[int], list[int]]
    answers: tuple[int, int]
    texts: tuple[str, str]
    continuations: tuple[str, str]
    template: int


class DroppedError(Exception):
    """A pair that breaks a rule.

    Attributes:
      rule: What is wrong, in words that are the same for all such pairs.
      example: What is wrong with this one.
      way_out: What its author can do.
    """

    def __init__(self, rule: str, way_out: str, example: str = ""):
        super().__init__(rule)
        self.rule, self.way_out, self.example = rule, way_out, example


def _clipped(text: str) -> str:
    """The end of a text, which decides what comes next, in quotes."""
    return repr(text) if len(text) <= _SHOWN else f"...{text[-_SHOWN:]!r}"


def _equal_prompts(python: bool, texts: Filled, tokenizer: Tokenizer) -> tuple[str, str]:
    """Both prompts' texts, the shorter one's comment lengthened by one word a token.

    Both have further words, up to FEW and twice the difference, so that a comment's length says little about
    which prompt it is: a threshold on it is right for three in four at most.
    """
    plain = [with_padding(prompt, texts, 1) for prompt in texts.prompts]
    lengths = [len(tokenizer.encode(text)) for text in plain]
    extra = [max(lengths) - length for length in lengths]
    common = 1 + int(texts.share * (FEW + 2 * max(extra)))
    if any(extra) and not texts.padding:
        shown = " and ".join(
            f"{_clipped(text)} ({count} tokens)" for text, count in zip(plain, lengths, strict=True)
        )
        raise DroppedError(
            "the prompts differ in length and have no $pad",
            "write both prompts of a pair in equally many tokens"
            + (", or put $pad into both" if python else ""),
            shown,
        )
    a, b = (with_padding(text, texts, common + more) for text, more in zip(texts.prompts, extra, strict=True))
    return a, b


def encode_pair(python: bool, texts: Filled, tokenizer: Tokenizer, n_ctx: int) -> Encoded:
    """Applies the rules to one pair.

    Args:
      python: Of `Task`.
      texts: A filled template.
      tokenizer: Decides lengths and answers.
      n_ctx: Longest sequence of the model, in tokens.

    Raises:
      DroppedError: naming the rule that is broken.
    """
    prompts = _equal_prompts(python, texts, tokenizer)
    whole = [prompt + after for prompt, after in zip(prompts, texts.continuations, strict=True)]
    if python and not all(map(_parses, whole)):
        raise DroppedError(
            "prompt and continuation are not valid Python",
            "correct the templates, or give the task python=False",
            next(repr(text) for text in whole if not _parses(text)),
        )
    ids = [tokenizer.encode(prompt) for prompt in prompts]
    if len(ids[0]) != len(ids[1]):
        raise DroppedError("padding could not make the prompts equally long", "write them equally long")
    length = len(ids[0])
    whole_ids = [tokenizer.encode(text) for text in whole]
    joined = [i for i in (0, 1) if whole_ids[i][:length] != ids[i]]
    if joined:
        prompt, after = prompts[joined[0]], texts.continuations[joined[0]]
        raise DroppedError(
            "the prompt's tokens are not a prefix of prompt + continuation",
            "let the prompts end where a token ends: move their last characters into the answers, or the "
            "answers' first ones into the prompts",
            f"{_clipped(prompt)} before {after!r}",
        )
    rest_a, rest_b = whole_ids[0][length:], whole_ids[1][length:]
    # Tokens that both continuations begin with belong to the prompt: they decide nothing.
    shared = next((i for i, (a, b) in enumerate(zip(rest_a, rest_b, strict=False)) if a != b), None)
    if shared is None:
        raise _same_continuations(texts.continuations)
    length += shared
    a, b = whole_ids[0][:length], whole_ids[1][:length]
    if a == b:
        raise DroppedError(
            "the two prompts are the same",
            "let the prompts differ in what decides the answer",
            _clipped(prompts[0]),
        )
    if a[-1:] != b[-1:]:
        raise DroppedError(
            "the prompts do not end in the same token",
            "write the same after what differs in the prompts, so that their last token does not decide",
            " and ".join(map(_clipped, prompts)),
        )
    _check_length(python, length, n_ctx, prompts[0])
    answers = rest_a[shared], rest_b[shared]
    if not shared:
        return Encoded((a, b), answers, prompts, texts.continuations, texts.template)
    shown = tokenizer.decode(a), tokenizer.decode(b)
    afters = tokenizer.decode(rest_a[shared:]), tokenizer.decode(rest_b[shared:])
    if [prompt + after for prompt, after in zip(shown, afters, strict=True)] != whole:
        shown, afters = prompts, texts.continuations  # the answers part within a character
    return Encoded((a, b), answers, shown, afters, texts.template)


def _same_continuations(continuations: tuple[str, str]) -> DroppedError:
    """Why two right continuations do not tell the prompts apart."""
    shorter, longer = sorted(continuations, key=len)
    if not shorter:
        return DroppedError("a right continuation is empty", "say how both prompts go on")
    if shorter == longer:
        return DroppedError(
            "the two right continuations do not differ",
            "give each prompt an answer of its own",
            repr(shorter),
        )
    return DroppedError(
        "one right continuation begins with the other",
        "add to the shorter one what follows it, such as a line end or a bracket, so that the two differ",
        f"{shorter!r} and {longer!r}",
    )


def _check_length(python: bool, length: int, n_ctx: int, prompt: str) -> None:
    """Raises DroppedError for a prompt of a length that the task's rules exclude."""
    if python and not MIN_TOKENS <= length <= MAX_TOKENS:
        raise DroppedError(
            f"a prompt has fewer than {MIN_TOKENS} or more than {MAX_TOKENS} tokens",
            f"write templates of {MIN_TOKENS} to {MAX_TOKENS} tokens",
            f"{_clipped(prompt)} ({length} tokens)",
        )
    if not python and length > n_ctx:
        raise DroppedError(
            f"a prompt has more tokens than the model's context of {n_ctx}",
            "shorten the prompts, or use a model with a longer context (model.n_ctx)",
            f"{_clipped(prompt)} ({length} tokens)",
        )


def _parses(text: str) -> bool:
    try:
        ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError):  # also a null byte, or deep nesting
        return False
    return True
