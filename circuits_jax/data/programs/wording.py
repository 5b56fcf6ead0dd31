"""Random names, numbers and strings, of which generated programs are made."""

import random
import re
from collections.abc import Sequence
from typing import TypeVar

from circuits_jax.data.programs.words import UNSEEN_WORDS

# Frequent in comments, rare as names: for strings and comments only.
ENGLISH = frozenset(
    re.findall(
        "[a-z]+",
        """
        a about an are as at been but can could do does each either even given had have he here how however if
        into it its itself just made many may more most must no non note of only other our out over own same
        see should since some such than that the their them then there these they those though through too
        under until up used usually very was we well were what when where whether which while who whose why
        will within without would you your
        """,
    )
)
T = TypeVar("T")


class Wording:
    """Draws words; those of `words` come most frequent first, and frequent ones are drawn more often.

    Attributes:
      random: The stream of all draws.  Only `random()` is used: the one method whose stream Python promises
        to keep.
      mark: The quote character of strings.
    """

    def __init__(self, words: Sequence[str], seed: int) -> None:
        self.random = random.Random(seed).random
        self.mark = '"'
        self._words = words
        self._names = [word for word in words if word not in ENGLISH]
        titles = (name.title().replace("_", "") for name in self._names)
        self._classes = [title for title in titles if title not in UNSEEN_WORDS]

    def choose(self, choices: Sequence[T]) -> T:
        """One of `choices`, each as likely."""
        return choices[int(self.random() * len(choices))]

    def earlier(self, choices: Sequence[T]) -> T:
        """One of `choices`, the first ones more likely."""
        return choices[int(len(choices) * self.random() ** 2)]

    def later(self, choices: Sequence[T]) -> T:
        """One of `choices`, the last ones more likely."""
        return choices[-1 - int(len(choices) * self.random() ** 2)]

    def new_mark(self) -> None:
        """Draws the quote character anew."""
        self.mark = '"' if self.random() < 0.5 else "'"

    def name(self) -> str:
        """A name in lower case."""
        return self.earlier(self._names)

    def class_name(self) -> str:
        """A name of a class."""
        return self.earlier(self._classes)

    def number(self) -> str:
        """A number, most often a digit."""
        return str(int(10 * self.random()) if self.random() < 0.8 else int(100 * self.random()))

    def phrase(self) -> str:
        """One to three words."""
        words = [self.earlier(self._words) for _ in range(1 + int(3 * self.random()))]
        return " ".join(word.replace("_", " ").strip() for word in words)

    def string(self) -> str:
        """A phrase in quotes."""
        return f"{self.mark}{self.phrase()}{self.mark}"

    def comment(self, share: float) -> str:
        """What ends a line with a comment in `share` of the draws, and with nothing in the others."""
        return f"  # {self.phrase()}" if self.random() < share else ""
