"""From a DataConfig to a tokenizer and windows of tokens that the run owns."""

import importlib.metadata
import json
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, overload

from circuits_jax.config import DataConfig
from circuits_jax.data import earlier, sources, store
from circuits_jax.data.packing import Texts, pack, shuffled
from circuits_jax.data.programs.generator import build_generated, corpus_words, find_grammar
from circuits_jax.data.sources import left_out
from circuits_jax.data.sources.documents import Documents
from circuits_jax.data.store import Corpus
from circuits_jax.data.tokenizers import tinypython
from circuits_jax.data.tokenizers.bpe import CHARACTERS, load_tokenizer, train_sentencepiece
from circuits_jax.model.tokenizer import Tokenizer
from circuits_jax.storage import filenames
from circuits_jax.storage.errors import ConfigError
from circuits_jax.storage.files import read_json_if_any, write_aside
from circuits_jax.storage.paths import as_path

# Lies in a workdir whose tokenizer came with a model (`released.as_workdir`, `train.start_from`).
IMPORTED = "imported.json"
# What is needed to make a corpus and not afterwards; a run that is killed finds it when it is started again.
SCRATCH = ".new"


class StoredTexts(Sequence[str]):
    """The texts of a split of a builder, in its order, which is fixed; each is read when it is asked for."""

    def __init__(self, builder: Any, split: str):
        self._source = builder.as_data_source(split)

    def __len__(self) -> int:
        return len(self._source)

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[str]: ...
    def __getitem__(self, index: int | slice) -> str | Sequence[str]:
        if isinstance(index, slice):
            return [self[place] for place in range(*index.indices(len(self)))]
        if not -len(self) <= index < len(self):
            raise IndexError(index)
        return self._source[index % len(self)]["text"].decode()


# (documents, settings, folder to write to) -> generated programs.
Generate = Callable[[Documents, DataConfig, Path], Sequence[str]]


def prepare(
    config: DataConfig,
    vocab_size: int,
    n_ctx: int,
    workdir: Path,
    generate: Generate | None = None,
    named: bool = True,
) -> Corpus:
    """Reads the sources, trains the tokenizer, packs the windows; a second call finds all of it ready.

    Args:
      config: What to read, and with `store` where the corpus is kept.
      vocab_size: Pieces of a tokenizer trained now.
      n_ctx: Tokens of a window, less one.
      workdir: Gets the tokenizer's files and, unless `config.store` names another folder, the corpus in
        `data/`.
      generate: Makes the programs of which `config.generated_share` of the training windows are; by default
        `generate_programs_like`, which can do so by grammar 1.
      named: Whether the user named the sources, and not a file of the workdir, which may be another person's.

    Raises:
      ConfigError: for a corpus, vocabulary or window that cannot be used, a workdir of another corpus, or
        sources whose reading runs code and that the user did not name.
      CorpusError: for a corpus that was made before and is damaged.
    """
    workdir = as_path(workdir)
    place = workdir / filenames.DATA if config.store is None else as_path(config.store)
    scratch = workdir / filenames.DATA / SCRATCH
    folder = (
        earlier.adopt(config, n_ctx, workdir / filenames.DATA, scratch, place)
        if _is_claimed(workdir)
        else None
    )
    if folder is None:
        if not named and config.source == "tfds":
            raise ConfigError(
                f"the TFDS dataset {config.name!r} brings code that would run, and only config.json names "
                "it; give the run's own pretrain command again, which names it too and makes the corpus"
            )
        made_of = _made_of(config, vocab_size, n_ctx, workdir)
        folder = store.look_up(made_of, place)
    if folder is None:
        maker = _Maker(config, vocab_size, n_ctx, workdir)
        folder = maker.make(place, made_of, generate or generate_programs_like)
    corpus = store.read(folder)
    give_tokenizer(folder, corpus, workdir)
    return corpus


def generate_programs_like(
    documents: Documents,
    config: DataConfig,
    folder: Path,
    withheld: Callable[[str], bool] | None = None,
) -> Sequence[str]:
    """Programs with the words of the training split, as many as make up `config.generated_share`.

    Args:
      documents: The real code.
      config: Share, grammar and seed.
      folder: Gets the programs.
      withheld: Whether a text holds what no program may; grammar 2 has to be told.
    """
    real, share = documents.info.metadata["bytes"], config.generated_share or 0
    words, grammar = corpus_words(read_texts(documents, "train")), find_grammar(config.grammar, withheld)
    builder = build_generated(words, int(real * share / (1 - share)), config.seed, folder, grammar)
    return StoredTexts(builder, "train")


def give_tokenizer(folder: Path, corpus: Corpus, workdir: Path) -> None:
    """Sees to it that a workdir has the tokenizer of its corpus.

    Raises:
      ConfigError: if it has another one.
    """
    path = workdir / filenames.TOKENIZER
    if not path.exists() and not tinypython.lies_in(workdir):
        workdir.mkdir(parents=True, exist_ok=True)
        store.copy_tokenizer(folder, workdir)
        record = read_json_if_any(folder / store.MANIFEST).get("trained_on")
        if record is not None:
            _write_record(workdir, corpus.tokenizer, record)
    elif load_tokenizer(path).hash != corpus.tokenizer.hash:
        raise ConfigError(
            f"the tokenizer {path} is not that of the run's corpus {folder}; put back the one that lies "
            "there, or use another workdir"
        )


def read_texts(builder: Documents, split: str) -> Iterator[str]:
    """The texts of a split, in the builder's order, which is fixed."""
    return iter(StoredTexts(builder, split))


class _Maker:
    """Makes the corpus of a run."""

    def __init__(self, config: DataConfig, vocab_size: int, n_ctx: int, workdir: Path):
        self._config, self._vocab_size, self._n_ctx, self._workdir = config, vocab_size, n_ctx, workdir
        self._scratch = workdir / filenames.DATA / SCRATCH

    def make(self, place: Path, made_of: dict[str, Any], generate: Generate) -> Path:
        """The folder of the new corpus in `place`."""
        config = self._config
        documents = sources.build(config, self._scratch)
        about = documents.info.metadata
        left_out.tell(documents.builder_config.what, about["left_out"], about["files"], about["bytes"])
        tokenizer = self._tokenizer(documents)
        windows = self._scratch / "windows"
        shutil.rmtree(windows, ignore_errors=True)
        windows.mkdir(parents=True)
        generated = None
        if config.generated_share:
            programs = generate(documents, config, self._scratch)
            size = sum(len(program.encode()) for program in programs)
            generated = Texts("generated", self._in_order(programs), size)
        counts = {}
        added_to = {"validation": None, "train": generated}  # the one that may be too small first
        for split, added in added_to.items():
            texts, size = StoredTexts(documents, split), about["split_bytes"][split]
            counts[split] = {"files": len(texts), "bytes": size} | pack(
                windows / store.windows_file(split),
                tokenizer,
                Texts(split, self._in_order(texts), size),
                self._n_ctx,
                added,
                config.generated_share or 0,
            )
        facts = {key: about[key] for key in ("files", "skipped", "bytes", "content", "left_out")}
        facts |= {"made_of": made_of, "trained_on": read_json_if_any(_record(self._workdir)).get("made_of")}
        folder = store.keep(windows, place, tokenizer, counts, facts)
        shutil.rmtree(self._scratch)
        return folder

    def _in_order(self, texts: Sequence[str]) -> Iterator[str]:
        return (texts[int(place)] for place in shuffled(len(texts), self._config.seed))

    def _tokenizer(self, documents: Documents) -> Tokenizer:
        """Loads the workdir's tokenizer, which the user may have put there, or trains it.

        A tokenizer that came with an imported model may have fewer tokens than the model.
        """
        config, vocab_size, workdir = self._config, self._vocab_size, self._workdir
        path = workdir / filenames.TOKENIZER
        trained_on = _trained_on(documents.info.metadata["content"], config, vocab_size)
        brought = tinypython.lies_in(workdir) or (path.exists() and (workdir / IMPORTED).exists())
        if not path.exists() and not brought:
            texts = read_texts(documents, "train")
            tokenizer = train_sentencepiece(texts, vocab_size, config.symbols, config.tokenizer_characters)
            _write_record(workdir, tokenizer, trained_on)
            tokenizer.save(path)
            return tokenizer
        loaded = load_tokenizer(path)
        if loaded.vocab_size > vocab_size or (loaded.vocab_size < vocab_size and not brought):
            raise ConfigError(
                f"the tokenizer {path} has {loaded.vocab_size} pieces, but model.vocab_size is {vocab_size}; "
                "change model.vocab_size or use another workdir"
            )
        found = read_json_if_any(_record(workdir))
        earlier = {"characters": CHARACTERS} | (found.get("made_of") or {})
        if found.get("tokenizer") == loaded.hash and earlier != trained_on:
            raise ConfigError(
                f"the tokenizer {path} was trained on another corpus or with other data.symbols; "
                "use another workdir, or the corpus and symbols of this one"
            )
        return loaded


def _made_of(config: DataConfig, vocab_size: int, n_ctx: int, workdir: Path) -> dict[str, Any]:
    """What decides a corpus, as JSON values: another one may not be taken for it."""
    return {
        "source": sources.find(config).name,
        "vocab_size": vocab_size,
        "n_ctx": n_ctx,
        "symbols": list(config.symbols),
        "characters": config.tokenizer_characters,
        "seed": config.seed,
        "generated_share": config.generated_share or 0,
        # Corpora of earlier releases, all of grammar 1, do not name it and are found as ever.
        **({"grammar": config.grammar} if config.generated_share and config.grammar != 1 else {}),
        "tokenizer": _brought_hash(workdir),
        "versions": {
            # Its keywords and names are left out of generated programs.
            "python": ".".join(map(str, sys.version_info[:2])),
            **{name: importlib.metadata.version(name) for name in ("circuits_jax", "sentencepiece")},
        },
    }


def _is_claimed(workdir: Path) -> bool:
    """Whether a run holds the workdir: what lies there is its own, and not of a run that never began."""
    return (workdir / filenames.CONFIG).exists()


def _brought_hash(workdir: Path) -> str | None:
    """The hash of a tokenizer that the workdir has and that was not trained for its corpus."""
    path = workdir / filenames.TOKENIZER
    if not path.exists() and not tinypython.lies_in(workdir):
        return None
    found = load_tokenizer(path).hash
    return None if read_json_if_any(_record(workdir)).get("tokenizer") == found else found


def _trained_on(content: str, config: DataConfig, vocab_size: int) -> dict[str, Any]:
    return {
        "corpus": content,
        "vocab_size": vocab_size,
        "symbols": list(config.symbols),
        "characters": config.tokenizer_characters,
    }


def _record(workdir: Path) -> Path:
    """The file that says which tokenizer was trained in a workdir, and on what."""
    return workdir / filenames.DATA / "tokenizer.json"


def _write_record(workdir: Path, tokenizer: Tokenizer, trained_on: dict[str, Any]) -> None:
    with write_aside(_record(workdir)) as file:
        file.write(json.dumps({"tokenizer": tokenizer.hash, "made_of": trained_on}).encode())
