"""What a person is to know and would overlook if it were said while a command is at work: told at its end."""

import sys

_LINES: list[str] = []


def at_the_end(line: str) -> None:
    """Keeps a line, each once, until `tell`."""
    if line not in _LINES:
        _LINES.append(line)


def tell() -> None:
    """Prints the lines that were kept, on stderr, and forgets them."""
    while _LINES:
        print(_LINES.pop(0), file=sys.stderr, flush=True)
