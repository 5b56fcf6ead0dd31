"""The corpus and its tokenizer: section `data`."""

import dataclasses

from circuits_jax.config.checks import (
    check_choice,
    check_positive,
    check_seed,
)
from circuits_jax.storage.errors import ConfigError

SOURCES = ("python", "tfds", "jsonl", "parquet")


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
      generated_share: Share of training windows taken from small generated programs.
      symbols: Strings that are always one token of their own.
      tokenizer_characters: Size of the sample of the training split that the tokenizer is trained on.
      seed: Seed of the shuffle.
    """

    source: str = "python"
    roots: tuple[str, ...] = ()
    name: str = ""
    text: str = "text"
    exclude: tuple[str, ...] = ("site-packages", "dist-packages", "test", "tests", "idle_test")
    deduplicate: bool = False
    validation_fraction: float = 0.05
    generated_share: float = 0.0
    symbols: tuple[str, ...] = ('"""', "'''", '"', "'")
    tokenizer_characters: int = 2**26
    seed: int = 0

    def __post_init__(self) -> None:
        check_seed("data.seed", self.seed)
        check_choice("data.source", self.source, SOURCES)
        check_positive("data.tokenizer_characters", self.tokenizer_characters)
        if not 0 < self.validation_fraction < 1:
            raise ConfigError(
                f"data.validation_fraction is {self.validation_fraction}; it must lie between 0 and 1"
            )
        if not 0 <= self.generated_share < 0.5:
            raise ConfigError(
                f"data.generated_share is {self.generated_share}; it must lie in [0, 0.5): "
                "real code stays the larger part"
            )
