"""A run finds its corpus by its hash, wherever both lie by now, and reads no source."""

import dataclasses
import json
import keyword
import shutil
from pathlib import Path

import numpy as np
import pytest

from circuits_jax.config import Config, DataConfig, ModelConfig
from circuits_jax.data import sources
from circuits_jax.data.corpus import Corpus
from circuits_jax.data.programs.generator import generate_programs
from circuits_jax.data.programs.words import WORDS
from circuits_jax.runs.corpora import (
    corpus_to_train,
    open_corpus,
    reference_windows,
    remember_store,
    settle,
    share_corpus,
    with_corpus,
)
from circuits_jax.storage.errors import ConfigError, CorpusError
from circuits_jax.tasks.withheld import spells_withheld
from circuits_jax.training.workdir import check, claim, load_config
from tests.data.conftest import program


def write_tree(folder: Path, extra: str = "") -> Path:
    folder.mkdir(parents=True)
    for number in range(24):
        (folder / f"{number}.py").write_text(program(number) + extra)
    return folder


def settings(tree: Path | str, **data: object) -> Config:
    return Config(
        model=ModelConfig(n_layer=1, d_model=16, d_mlp=16, n_ctx=15, vocab_size=340),
        data=DataConfig(roots=(str(tree),), validation_fraction=0.25, **data),
    )


def begin(config: Config, workdir: Path) -> tuple[Config, Corpus]:
    """What `pretrain` does before the first step."""
    config = settle(config, workdir)
    check(workdir, config)
    corpus = corpus_to_train(config, workdir, lambda folder: None)
    config = with_corpus(config, corpus)
    claim(workdir, config)
    remember_store(config, workdir)
    return config, corpus


@pytest.fixture
def no_sources(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Whoever looks for a source from now on fails."""

    def find(config: DataConfig) -> None:
        raise AssertionError("a source was read")

    def forbid() -> None:
        monkeypatch.setattr(sources, "find", find)

    return forbid


def test_a_run_needs_no_source_after_it_began(tmp_path: Path, no_sources, monkeypatch) -> None:
    config, corpus = begin(settings(write_tree(tmp_path / "tree")), tmp_path / "run")
    assert load_config(tmp_path / "run").data.hash == corpus.hash
    no_sources()
    shutil.rmtree(tmp_path / "tree")
    (tmp_path / "elsewhere").mkdir()
    shutil.copytree(tmp_path / "run", tmp_path / "elsewhere" / "copy of it")
    (tmp_path / "run").rename(tmp_path / "renamed")
    monkeypatch.chdir(tmp_path / "elsewhere")
    for workdir in (tmp_path / "renamed", Path("copy of it")):
        found = open_corpus(load_config(workdir), workdir)
        assert found.hash == corpus.hash and len(found.train) == len(corpus.train)
        assert begin(settings(tmp_path / "tree"), workdir)[1].hash == corpus.hash  # goes on


@pytest.fixture(scope="module")
def words(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tree whose words are enough for generated programs."""
    folder = tmp_path_factory.mktemp("words")
    names = [word for kind in "niw" for word in WORDS["train"][kind] if not keyword.iskeyword(word)]
    for number, text in enumerate(generate_programs(names, 0, count=60)):
        (folder / f"{number}.py").write_text(text)
    return folder


def test_a_grammar_has_corpora_of_its_own_and_they_hold_nothing_withheld(words: Path, tmp_path: Path) -> None:
    store = tmp_path / "store"
    shared = {"generated_share": 0.75, "store": str(store)}
    _, one = begin(settings(words, **shared), tmp_path / "one")
    _, two = begin(settings(words, **shared, grammar=2), tmp_path / "two")
    assert one.hash != two.hash and one.tokenizer.hash == two.tokenizer.hash
    assert begin(settings(words, **shared, grammar=2), tmp_path / "again")[1].hash == two.hash
    made_of = {
        corpus.hash: json.loads((store / corpus.hash / "corpus.json").read_text())["made_of"]
        for corpus in (one, two)
    }
    # What corpora of grammar 1 were made of before there was another one: such a corpus is found as ever.
    before = "characters generated_share n_ctx seed source symbols tokenizer versions vocab_size"
    assert " ".join(sorted(made_of[one.hash])) == before
    assert made_of[two.hash] == made_of[one.hash] | {"grammar": 2}
    generated = two.train.counts["generated"]
    assert generated == 3 * (len(two.train) - generated)
    row = two.train.rows(slice(len(two.train) - generated, None)).reshape(-1)
    texts = [two.tokenizer.decode(part) for part in np.split(row, np.flatnonzero(row == two.tokenizer.eot))]
    assert len(texts) > 10 and not any(map(spells_withheld, texts))


def test_a_run_keeps_its_grammar(words: Path, tmp_path: Path) -> None:
    begin(settings(words, generated_share=0.25), tmp_path / "run")
    values = json.loads((tmp_path / "run" / "config.json").read_text())
    del values["data"]["grammar"]  # as an earlier release wrote it
    (tmp_path / "run" / "config.json").write_text(json.dumps(values))
    begin(settings(words, generated_share=0.25), tmp_path / "run")
    with pytest.raises(ConfigError, match="another configuration .data.grammar is 1 there, 2 here"):
        begin(settings(words, generated_share=0.25, grammar=2), tmp_path / "run")


def test_another_corpus_under_the_name_of_the_run_s_is_not_taken(tmp_path: Path) -> None:
    config, corpus = begin(settings(write_tree(tmp_path / "tree")), tmp_path / "run")
    folder = tmp_path / "run" / "data" / corpus.hash
    manifest = json.loads((folder / "corpus.json").read_text())
    (folder / "corpus.json").write_text(json.dumps(manifest | {"hash": "0" * 16}))
    with pytest.raises(CorpusError, match=f"{corpus.hash} holds the corpus 0000000000000000 and not"):
        open_corpus(config, tmp_path / "run")


def test_a_shared_store_is_found_when_either_or_both_move(tmp_path: Path, no_sources) -> None:
    home = tmp_path / "home"
    shared = settings(write_tree(tmp_path / "tree"), store=str(home / "store"))
    _, corpus = begin(shared, home / "runs" / "a")
    begin(shared, home / "runs" / "b")
    assert [path.name for path in (home / "store").iterdir()] == [corpus.hash]
    no_sources()

    def opened(workdir: Path, store: Path | None = None) -> str:
        config = load_config(workdir)
        data = config.data if store is None else dataclasses.replace(config.data, store=str(store))
        return open_corpus(dataclasses.replace(config, data=data), workdir).hash

    run = (home / "runs" / "a").rename(tmp_path / "a")
    assert opened(run) == corpus.hash  # the run alone has moved
    home = home.rename(tmp_path / "new home")
    assert opened(home / "runs" / "b") == corpus.hash  # both have
    begin(settings(tmp_path / "tree"), home / "runs" / "b")  # goes on, and writes down where it is now
    assert opened((home / "runs" / "b").rename(tmp_path / "b")) == corpus.hash
    with pytest.raises(CorpusError, match=f"{corpus.hash}.*lies in none of .*--store=FOLDER"):
        opened(run)
    assert opened(run, home / "store") == corpus.hash  # a flag says where
    shutil.copytree(home / "store" / corpus.hash, run / "data" / corpus.hash)
    shutil.rmtree(home)
    assert opened(run) == corpus.hash


def test_a_relative_store_outlives_another_working_directory(tmp_path: Path, monkeypatch) -> None:
    tree = write_tree(tmp_path / "tree")
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    _, corpus = begin(settings(tree, store="../store"), Path("run"))
    monkeypatch.chdir("/")
    workdir = tmp_path / "here" / "run"
    assert open_corpus(load_config(workdir), workdir).hash == corpus.hash


def test_a_corpus_that_is_named_needs_no_source_at_all(tmp_path: Path, no_sources) -> None:
    shared = settings(write_tree(tmp_path / "tree"), store=str(tmp_path / "store"))
    _, corpus = begin(shared, tmp_path / "a")
    no_sources()
    config = settings("nowhere", store=str(tmp_path / "store"), hash=corpus.hash)
    assert begin(config, tmp_path / "b")[1].hash == corpus.hash
    assert (tmp_path / "b" / "tokenizer.model").exists()
    with pytest.raises(ConfigError, match="data.hash is 'corpus'"):
        settings("nowhere", hash="corpus")


def test_the_same_documents_elsewhere_are_the_same_run_and_others_are_not(tmp_path: Path) -> None:
    begin(settings(write_tree(tmp_path / "tree")), tmp_path / "run")
    (tmp_path / "tree").rename(tmp_path / "moved")
    config, _ = begin(settings(tmp_path / "moved"), tmp_path / "run")
    assert config.data.roots == (str(tmp_path / "tree"),)  # the record stays as it was
    other = write_tree(tmp_path / "other", "# edited\n")
    with pytest.raises(ConfigError, match="another configuration .*data.roots is .*tree.* there, .*other"):
        begin(settings(other), tmp_path / "run")
    with pytest.raises(ConfigError, match="data.seed is 0 there, 1 here"):
        begin(settings(tmp_path / "moved", seed=1), tmp_path / "run")
    with pytest.raises(ConfigError, match="data.roots names .*gone, which is not a folder"):
        begin(settings(tmp_path / "gone"), tmp_path / "run")


def test_generated_programs_are_mixed_in_where_they_are_asked_for(tmp_path: Path) -> None:
    own = settings(tmp_path / "tree", generated_share=None)
    assert settle(own, tmp_path / "new").data.generated_share == 0
    standard = dataclasses.replace(own, data=DataConfig(generated_share=None))
    assert settle(standard, tmp_path / "new").data.generated_share == 0.25
    second = dataclasses.replace(own, data=DataConfig(generated_share=None, grammar=2))
    assert settle(second, tmp_path / "new").data.generated_share == 0.75
    rows = dataclasses.replace(own, data=DataConfig(source="jsonl", roots=("a",), generated_share=None))
    assert settle(rows, tmp_path / "new").data.generated_share == 0
    asked = settings(tmp_path / "tree", generated_share=0.1)
    assert settle(asked, tmp_path / "new").data.generated_share == 0.1
    claim(tmp_path / "old", settings(tmp_path / "tree", generated_share=0.25))  # an earlier release's default
    assert settle(own, tmp_path / "old").data.generated_share == 0.25


def test_another_run_gets_a_corpus_of_its_own(tmp_path: Path, no_sources) -> None:
    config, corpus = begin(settings(write_tree(tmp_path / "tree")), tmp_path / "run")
    no_sources()
    claim(tmp_path / "run" / "sparse", config)
    share_corpus(config, tmp_path / "run", tmp_path / "run" / "sparse")
    alone = (tmp_path / "run" / "sparse").rename(tmp_path / "alone")
    shutil.rmtree(tmp_path / "run")
    assert open_corpus(load_config(alone), alone).hash == corpus.hash


def test_another_run_finds_a_shared_corpus(tmp_path: Path) -> None:
    shared = settings(write_tree(tmp_path / "tree"), store=str(tmp_path / "home" / "store"))
    config, corpus = begin(shared, tmp_path / "home" / "run")
    claim(tmp_path / "home" / "run" / "sparse", config)
    share_corpus(config, tmp_path / "home" / "run", tmp_path / "home" / "run" / "sparse")
    workdir = (tmp_path / "home").rename(tmp_path / "moved") / "run" / "sparse"
    assert open_corpus(load_config(workdir), workdir).hash == corpus.hash
    assert not (workdir / "data" / corpus.hash).exists()


def test_reference_windows_are_int32_rows_of_the_training_split(tmp_path: Path) -> None:
    config, corpus = begin(settings(write_tree(tmp_path / "tree")), tmp_path / "run")
    prune = dataclasses.replace(config.prune, mean_batches=2)
    windows = reference_windows(corpus, config, prune)
    assert windows.dtype == "int32" and windows.shape == (2, config.train.batch_size, 15)
    rows = {tuple(row) for row in corpus.train.tokens[:, :-1].tolist()}
    assert {tuple(row) for row in windows.reshape(-1, 15).tolist()} <= rows
