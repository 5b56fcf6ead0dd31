"""The corpus and its tokenizer: section `data`."""

import dataclasses

from circuits_jax.config.checks import (
    check_choice,
    check_positive,
    check_seed,
    check_text,
)
from circuits_jax.storage.errors import ConfigError

SOURCES = ("python", "tfds", "jsonl", "parquet")
GRAMMARS = (1, 2)
STANDARD_SHARES = {1: 0.25, 2: 0.75}  # by grammar, of programs beside the standard library, unless it is set


@dataclasses.dataclass(frozen=True)
class DataConfig:
    """The corpus, its split and its tokenizer.

    Attributes:
      source: Where documents come from: "python" (trees of source), "tfds" (a dataset by its name), "jsonl"
        or "parquet" (files of rows).
      roots: For "python" folders of source, none meaning the running interpreter's standard library; for
        "jsonl" and "parquet" files or patterns (`/data/*.jsonl`); for "tfds" the data_dir, if it is not TFDS'
        own.
      name: TFDS' name of the dataset, such as "wiki40b/en".
      text: The feature, key or column that holds the text.
      exclude: Folder names that are left out wherever they occur in trees of source.
      deduplicate: Whether a document equal to an earlier one is left out.
      validation_fraction: Share of documents (by content hash) held out for validation.
      generated_share: Share of training windows taken from small generated programs, below 1; None for a
        quarter of grammar 1 or three quarters of grammar 2 beside the interpreter's own standard library, and
        none beside a corpus of the user's (`source` or `roots` given).  Validation is real code, whatever
        the share.
      grammar: Of the generated programs (docs/design.md, "Data"): 1, what every earlier run had, or 2, whose
        variables have kinds and are used as these allow.
      symbols: Strings that are always one token of their own.
      tokenizer_characters: Size of the sample of the training split that the tokenizer is trained on.
      seed: Seed of the shuffle.
      store: A folder in which runs share their corpora, each in a folder of its hash; None keeps a run's in
        its workdir.
      hash: Of the corpus.  A run writes down its own; given for a new run, that corpus is taken from `store`
        and no source is read.
    """

    source: str = "python"
    roots: tuple[str, ...] = ()
    name: str = ""
    text: str = "text"
    exclude: tuple[str, ...] = ("site-packages", "dist-packages", "test", "tests", "idle_test")
    deduplicate: bool = False
    validation_fraction: float = 0.05
    generated_share: float | None = 0.0
    grammar: int = 1
    symbols: tuple[str, ...] = ('"""', "'''", '"', "'")
    tokenizer_characters: int = 2**26
    seed: int = 0
    store: str | None = None
    hash: str | None = None

    def __post_init__(self) -> None:
        check_seed("data.seed", self.seed)
        check_choice("data.source", self.source, SOURCES)
        check_positive("data.tokenizer_characters", self.tokenizer_characters)
        for symbol in self.symbols:
            check_text("data.symbols", symbol)
        if not 0 < self.validation_fraction < 1:
            raise ConfigError(
                f"data.validation_fraction is {self.validation_fraction}; it must lie between 0 and 1"
            )
        check_choice("data.grammar", self.grammar, GRAMMARS)
        if self.generated_share is not None and not 0 <= self.generated_share < 1:
            raise ConfigError(
                f"data.generated_share is {self.generated_share}; it must lie in [0, 1): programs are "
                "added to real code, whose words they take"
            )
        if self.hash is not None and (len(self.hash) != 16 or not set(self.hash) <= set("0123456789abcdef")):
            raise ConfigError(
                f"data.hash is {self.hash!r}; it must be the 16 letters and digits that a corpus' folder is "
                "called by"
            )

    @property
    def is_standard_library(self) -> bool:
        """Whether the corpus is the running interpreter's own library, and none of the user's."""
        return self.source == "python" and not self.roots
