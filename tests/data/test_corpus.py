"""The whole way from files to windows, twice, and what it refuses."""

import dataclasses
import hashlib
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from circuits_jax.config import DataConfig
from circuits_jax.data import corpus as corpus_module
from circuits_jax.data.corpus import Corpus, prepare, read_texts
from circuits_jax.data.sources import build
from circuits_jax.data.sources.documents import SPLITS
from circuits_jax.data.tokenizers.bpe import train_sentencepiece
from circuits_jax.storage.errors import ConfigError
from tests.data.conftest import FILES, program

VOCAB, N_CTX = 340, 15


@pytest.fixture(scope="module")
def config(tree: Path) -> DataConfig:
    return DataConfig(roots=(str(tree),), validation_fraction=0.25)


@pytest.fixture(scope="module")
def workdir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("workdir")


@pytest.fixture(scope="module")
def corpus(config: DataConfig, workdir: Path) -> Corpus:
    return prepare(config, VOCAB, N_CTX, workdir)


def files(workdir: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in workdir.rglob("*") if path.is_file()}


def decoded(corpus: Corpus, windows: np.ndarray) -> list[str]:
    """The documents that the windows hold, the last one perhaps cut short."""
    row = windows.reshape(-1)
    cuts = np.flatnonzero(row == corpus.tokenizer.eot)
    return [corpus.tokenizer.decode(part) for part in np.split(row, cuts)]


def test_the_windows_hold_the_files_of_their_split(
    corpus: Corpus, config: DataConfig, tree: Path, workdir: Path
) -> None:
    builder = build(config, workdir / "data")
    for split, windows in (("train", corpus.train), ("validation", corpus.validation)):
        assert windows.tokens.shape == (len(windows), N_CTX + 1) and windows.tokens.dtype == np.uint16
        *whole, last = decoded(corpus, windows.tokens)
        texts = set(read_texts(builder, split))
        assert len(whole) >= len(texts) - 1 and set(whole) <= texts
        assert any(text.startswith(last) for text in texts - set(whole)) or not last
    assert corpus.files == FILES and corpus.skipped == 0
    sources = [path.read_bytes() for path in tree.rglob("*.py")]
    assert corpus.bytes == sum(map(len, sources))
    assert corpus.tokens == sum(len(corpus.tokenizer.encode(data.decode())) + 1 for data in sources)


def test_the_tokenizer_saw_the_training_split_only(corpus: Corpus, config: DataConfig, workdir: Path) -> None:
    texts = read_texts(build(config, workdir / "data"), "train")
    assert corpus.tokenizer.hash == train_sentencepiece(texts, VOCAB, config.symbols).hash


def test_a_second_call_reuses_everything(
    corpus: Corpus, config: DataConfig, workdir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = files(workdir)
    monkeypatch.setattr(corpus_module, "train_sentencepiece", None)
    monkeypatch.setattr(corpus_module, "pack", None)
    again = prepare(config, VOCAB, N_CTX, workdir)
    assert files(workdir) == before
    assert np.array_equal(again.train.tokens, corpus.train.tokens)
    assert again.train.counts == corpus.train.counts and again.tokens == corpus.tokens


def test_another_workdir_gets_the_same_windows_and_another_seed_another_order(
    corpus: Corpus, config: DataConfig, tmp_path: Path, workdir: Path
) -> None:
    same = prepare(config, VOCAB, N_CTX, tmp_path)
    assert np.array_equal(same.train.tokens, corpus.train.tokens)
    other = prepare(dataclasses.replace(config, seed=1), VOCAB, N_CTX, tmp_path)
    assert not np.array_equal(other.train.tokens, corpus.train.tokens)
    assert other.tokens == corpus.tokens
    longer = prepare(config, VOCAB, 2 * N_CTX, tmp_path)
    assert longer.train.n_ctx == 2 * N_CTX


@pytest.mark.parametrize(("share", "to_one"), [(0.25, 1 / 3), (0.75, 3)])
def test_generated_programs_make_up_their_share_of_training_only(
    corpus: Corpus, config: DataConfig, tmp_path: Path, share: float, to_one: float
) -> None:
    config = dataclasses.replace(config, generated_share=share)
    texts = [program(number) for number in range(100, 300)]
    mixed = prepare(config, VOCAB, N_CTX, tmp_path, lambda *_: texts)
    assert mixed.tokenizer.hash == corpus.tokenizer.hash and mixed.tokens == corpus.tokens
    assert np.array_equal(mixed.validation.tokens, corpus.validation.tokens)
    real = len(corpus.train)
    assert np.array_equal(mixed.train.tokens[:real], corpus.train.tokens)
    assert mixed.train.counts["generated"] == len(mixed.train) - real == round(real * to_one)
    first, *whole, _ = decoded(mixed, mixed.train.tokens[real:])
    assert whole and set(whole) <= set(texts)
    counts = Counter(map(bytes, mixed.train.tokens[real:]))
    assert mixed.train.counts["generated_distinct"] >= len(counts)
    other = prepare(config, VOCAB, N_CTX, tmp_path / "other", lambda *_: texts[::-1])
    assert not np.array_equal(other.train.tokens, mixed.train.tokens)


def test_a_share_of_programs_that_the_corpus_has_no_words_for_is_refused(
    config: DataConfig, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match="need 50 different names from the corpus"):
        prepare(dataclasses.replace(config, generated_share=0.25), VOCAB, N_CTX, tmp_path)


def test_a_window_longer_than_a_split_names_it(corpus: Corpus, config: DataConfig, workdir: Path) -> None:
    tokens = corpus.validation.counts["tokens"]
    assert tokens < corpus.train.counts["tokens"]
    with pytest.raises(ConfigError, match=f"validation split holds {tokens} tokens.*n_ctx.* {tokens + 1};"):
        prepare(config, VOCAB, tokens, workdir)
    assert len(prepare(config, VOCAB, tokens - 1, workdir).validation) == 1


def test_a_workdir_keeps_its_tokenizer(corpus: Corpus, config: DataConfig, workdir: Path) -> None:
    before = (workdir / "tokenizer.model").read_bytes()
    with pytest.raises(ConfigError, match=f"has {VOCAB} pieces, but model.vocab_size is {VOCAB + 1}"):
        prepare(config, VOCAB + 1, N_CTX, workdir)
    for changes in ({"symbols": ('"',)}, {"exclude": ("package",)}):
        with pytest.raises(ConfigError, match="another corpus or with other data.symbols"):
            prepare(dataclasses.replace(config, **changes), VOCAB, N_CTX, workdir)
    assert (workdir / "tokenizer.model").read_bytes() == before


def test_a_tokenizer_put_into_the_workdir_is_used(corpus: Corpus, config: DataConfig, tmp_path: Path) -> None:
    brought = train_sentencepiece([program(number) for number in range(500, 540)], VOCAB, ())
    brought.save(tmp_path / "tokenizer.model")
    found = prepare(config, VOCAB, N_CTX, tmp_path)
    assert found.tokenizer.hash == brought.hash != corpus.tokenizer.hash


def test_a_damaged_tokenizer_is_refused_and_kept(corpus: Corpus, config: DataConfig, tmp_path: Path) -> None:
    corpus.tokenizer.save(tmp_path / "tokenizer.model")
    data = (tmp_path / "tokenizer.model").read_bytes()[:-100]
    (tmp_path / "tokenizer.model").write_bytes(data)
    with pytest.raises(ConfigError, match="cut short"):
        prepare(config, VOCAB, N_CTX, tmp_path)
    assert (tmp_path / "tokenizer.model").read_bytes() == data


def test_a_vocabulary_too_large_leaves_nothing(config: DataConfig, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="vocab_size is 60000, too large"):
        prepare(config, 60000, N_CTX, tmp_path)
    assert not (tmp_path / "tokenizer.model").exists()


def check_standard_library(tmp_path: Path, exclude: tuple[str, ...], every: int) -> int:
    """Round-trips every n-th file of the running interpreter's library; how many there were."""
    config = DataConfig(exclude=exclude)
    builder = build(config, tmp_path)
    tokenizer = train_sentencepiece(list(read_texts(builder, "train"))[:: 8 * every], 1024, config.symbols)
    count = 0
    for split in SPLITS:
        for text in list(read_texts(builder, split))[::every]:
            digest = hashlib.sha256(tokenizer.decode(tokenizer.encode(text)).encode()).hexdigest()
            assert digest == hashlib.sha256(text.encode()).hexdigest()
            count += 1
    return count


def test_a_sample_of_the_standard_library_survives(tmp_path: Path) -> None:
    assert check_standard_library(tmp_path, DataConfig().exclude, every=20) > 20


@pytest.mark.slow
def test_the_whole_standard_library_with_its_tests_survives(tmp_path: Path) -> None:
    assert check_standard_library(tmp_path, ("site-packages", "dist-packages"), every=1) > 500
