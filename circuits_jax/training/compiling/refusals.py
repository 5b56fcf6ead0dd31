"""What the TPU compiler says of a program that a chip has no memory for."""

import dataclasses
import re

_UNITS = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}
_AMOUNT = r"([\d.]+)\s*([KMGT]?)i?B?\b"
# Its words of today, and of a few years ago.
_NEEDED = (rf"total memory required[^(]*\({_AMOUNT}\)", rf"Used {_AMOUNT} of [\d.]+")
_AVAILABLE = (rf"exceeds available HBM \({_AMOUNT}\)", rf"Used [\d.]+[KMGT]? of {_AMOUNT}")


@dataclasses.dataclass(frozen=True)
class Refusal:
    """A refusal for memory.

    Attributes:
      message: What the compiler said, on one line.
      needed: Bytes of a chip's main memory that the program takes; None if it does not say.
      available: Bytes of it that there are; None if it does not say.
    """

    message: str
    needed: int | None
    available: int | None


def is_refusal(message: str) -> bool:
    """Whether an error of the compiler is one: of the chip's main memory, or of a smaller one of the chip."""
    return "RESOURCE_EXHAUSTED" in message


def read_refusal(message: str) -> Refusal:
    """The figures in the compiler's message; of another memory than the main one its words alone."""
    main = "hbm" in message.lower()
    return Refusal(
        message=" ".join(message.split())[:300],
        needed=_first(_NEEDED, message) if main else None,
        available=_first(_AVAILABLE, message) if main else None,
    )


def _first(patterns: tuple[str, ...], message: str) -> int | None:
    for pattern in patterns:
        if found := re.search(pattern, message):
            return int(float(found[1].rstrip(".")) * _UNITS[found[2]])
    return None
