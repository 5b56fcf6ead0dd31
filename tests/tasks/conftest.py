"""One small tokenizer, trained once on a slice of the standard library."""

import pathlib
import sysconfig

import pytest

from circuits_jax.config import DataConfig
from circuits_jax.data.tokenizers.bpe import train_sentencepiece


@pytest.fixture(scope="session")
def tokenizer():
    root = pathlib.Path(sysconfig.get_path("stdlib"))
    texts = [path.read_text("utf-8") for path in sorted(root.glob("[a-s]*.py"))]
    return train_sentencepiece(texts, 2048, DataConfig().symbols)
