"""What a source names and a corpus does not hold: counted by reason, with examples, and told."""

import dataclasses
import sys
from collections.abc import Mapping
from typing import Any

from circuits_jax.storage import notices

# Reasons, each with what to do about it.
NOT_UTF8 = "not text in UTF-8"
UNREADABLE = "cannot be opened"
NOT_A_FILE = "no regular file"
DEAD_LINK = "a link to nothing"
LINKED_FOLDER = "a link to a folder, not entered"
POINTER = "a Git LFS pointer, not the file itself"
NO_TEXT = "a row without text"
DUPLICATE = "the same as an earlier one"
EXCLUDED = "a folder of a name in data.exclude"
_WAY_IN = {
    NOT_UTF8: "convert it (iconv -t utf-8)",
    UNREADABLE: "give yourself the right to read it",
    NOT_A_FILE: "copy its content into a file",
    DEAD_LINK: "mend the link",
    POINTER: "fetch it (git lfs pull)",
    LINKED_FOLDER: "name the folder itself in data.roots",
    NO_TEXT: "name the column that holds text in data.text",
    DUPLICATE: "set data.deduplicate to False",
    EXCLUDED: "take the name out of data.exclude",
}
# What a setting of the user's own asked to leave out is no loss.
_ASKED_FOR = (DUPLICATE, EXCLUDED)
_EXAMPLES = 3
# Share of a corpus, in documents or in bytes, whose loss is told loudly.
_MUCH = 0.1


@dataclasses.dataclass(frozen=True)
class LeftOut:
    """In place of a document: why there is none.

    Attributes:
      reason: One of this module's.
      size: Bytes, as far as they are known.
    """

    reason: str
    size: int = 0


class Tally:
    """Counts what was left out."""

    def __init__(self) -> None:
        self._reasons: dict[str, dict[str, Any]] = {}

    def add(self, name: str, what: LeftOut) -> None:
        """Counts the document `name`."""
        found = self._reasons.setdefault(what.reason, {"count": 0, "bytes": 0, "examples": []})
        found["count"] += 1
        found["bytes"] += what.size
        if len(found["examples"]) < _EXAMPLES:
            found["examples"].append(name)

    def count(self, *reasons: str) -> int:
        """How many documents were left out for one of these reasons."""
        return sum(self._reasons[reason]["count"] for reason in reasons if reason in self._reasons)

    def lost(self) -> int:
        """How many were left out that nobody asked to leave out."""
        return self.count(*(reason for reason in self._reasons if reason not in _ASKED_FOR))

    def report(self) -> dict[str, dict[str, Any]]:
        """{reason: {"count", "bytes", "examples"}}, JSON values."""
        return self._reasons


def tell(what: str, report: Mapping[str, Mapping[str, Any]], kept: int, kept_bytes: int) -> None:
    """Says what a corpus left out when the command ends, and at once too if it is more than a tenth.

    Args:
      what: The corpus, for people.
      report: Of `Tally.report`.
      kept, kept_bytes: The documents that the corpus holds.
    """
    for reason, found in report.items():
        examples = ", ".join(found["examples"]) + (", ..." if found["count"] > len(found["examples"]) else "")
        notices.at_the_end(
            f"skipped {found['count']:,}, {reason}: {examples}; to include it: {_WAY_IN[reason]}"
        )
    lost = [found for reason, found in report.items() if reason not in _ASKED_FOR]
    count, size = (sum(found[key] for found in lost) for key in ("count", "bytes"))
    share = max(count / max(1, count + kept), size / max(1, size + kept_bytes))
    if share > _MUCH:
        line = (
            f"WARNING: the corpus lacks {share:.0%} of {what}: {count:,} left out, {kept:,} kept; the lines "
            "that begin with 'skipped' say why"
        )
        print(line, file=sys.stderr, flush=True)
        notices.at_the_end(line)
