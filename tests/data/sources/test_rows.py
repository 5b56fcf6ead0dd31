"""Documents from rows and from TFDS: the same texts, however they are stored; duplicates; what is refused."""

import dataclasses
import gzip
import json
from pathlib import Path

import numpy as np
import pytest
import tensorflow_datasets as tfds

from circuits_jax.config import DataConfig
from circuits_jax.data import sources
from circuits_jax.data.corpus import prepare, read_texts
from circuits_jax.data.sources.documents import SPLITS, Documents
from circuits_jax.data.tokenizers.bpe import train_sentencepiece
from circuits_jax.storage.errors import ConfigError
from tests.data.conftest import program

pyarrow = pytest.importorskip("pyarrow")
from pyarrow import parquet  # noqa: E402

TEXTS = [program(number) for number in range(20)] + ["größe = '\u2581'\r\n", ""]


def config(source: str, *roots: Path, **changes: object) -> DataConfig:
    roots = tuple(map(str, roots))
    return DataConfig(source=source, roots=roots, validation_fraction=0.25, **changes)


def texts(builder: Documents) -> list[str]:
    return [text for split in SPLITS for text in read_texts(builder, split)]


def write_jsonl(path: Path, values: list[object], key: str = "text") -> None:
    opened = gzip.open if path.suffix == ".gz" else open
    with opened(path, "wt", encoding="utf-8") as file:
        file.writelines(json.dumps({"id": 1, key: value}) + "\n" for value in values)


def write_parquet(path: Path, values: list[str | None], key: str = "text") -> None:
    parquet.write_table(pyarrow.table({key: values, "id": list(range(len(values)))}), path)


class Lines(tfds.core.GeneratorBasedBuilder):
    """A dataset of TFDS, as anybody might have prepared one."""

    VERSION = tfds.core.Version("1.0.0")
    url_infos = None

    def _info(self) -> tfds.core.DatasetInfo:
        features = tfds.features.FeaturesDict({"content": tfds.features.Text(), "number": np.int64})
        return tfds.core.DatasetInfo(builder=self, features=features)

    def _split_generators(self, dl_manager: object) -> dict[str, object]:
        return {"train": self._generate_examples(TEXTS[:15]), "test": self._generate_examples(TEXTS[15:])}

    def _generate_examples(self, texts: list[str]) -> object:
        for number, text in enumerate(texts):
            yield number, {"content": text, "number": number}


@pytest.fixture(scope="module")
def tfds_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tfds")
    Lines(data_dir=folder).download_and_prepare(file_format="array_record")
    return folder


def test_rows_and_datasets_give_the_same_documents(tmp_path: Path, tfds_folder: Path) -> None:
    write_jsonl(tmp_path / "a.jsonl", TEXTS[:9])
    write_jsonl(tmp_path / "b.jsonl.gz", TEXTS[9:])
    write_parquet(tmp_path / "a.parquet", TEXTS)
    built = [
        sources.build(config("jsonl", tmp_path / "*.jsonl*"), tmp_path / "data"),
        sources.build(config("parquet", tmp_path / "a.parquet"), tmp_path / "data"),
        sources.build(config("tfds", tfds_folder, name="lines", text="content"), tmp_path / "data"),
    ]
    for builder in built:
        assert sorted(texts(builder)) == sorted(TEXTS)
        assert builder.info.metadata["files"] == len(TEXTS)
        assert builder.info.metadata["bytes"] == sum(len(text.encode()) for text in TEXTS)
    splits = [{split: sorted(read_texts(builder, split)) for split in SPLITS} for builder in built]
    assert splits[0] == splits[1] == splits[2] and all(splits[0].values())


def test_any_source_goes_all_the_way_to_windows(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "a.jsonl", TEXTS, key="code")
    corpus = prepare(config("jsonl", tmp_path / "a.jsonl", text="code"), 320, 15, tmp_path / "run")
    row = np.concatenate([corpus.train.tokens.ravel(), corpus.validation.tokens.ravel()])
    documents = {
        corpus.tokenizer.decode(part) for part in np.split(row, np.flatnonzero(row == corpus.tokenizer.eot))
    }
    assert len(documents & set(TEXTS)) >= len(TEXTS) - 4  # a split's first and last may be cut


def test_exact_duplicates_are_left_out_if_asked_for(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "a.jsonl", [*TEXTS, *TEXTS[:7], TEXTS[0] + " "])
    keep, drop = (config("jsonl", tmp_path / "a.jsonl", deduplicate=value) for value in (False, True))
    assert len(texts(sources.build(keep, tmp_path / "data"))) == len(TEXTS) + 8
    builder = sources.build(drop, tmp_path / "data")
    assert sorted(texts(builder)) == sorted([*TEXTS, TEXTS[0] + " "])
    assert builder.info.metadata["duplicates"] == 7


def test_duplicates_are_left_out_of_python_trees_too(tree: Path, tmp_path: Path) -> None:
    (tmp_path / "more").mkdir()
    for number in (0, 3):
        (tmp_path / "more" / f"again_{number}.py").write_bytes(program(number).encode())
    both = config("python", tree, tmp_path / "more", deduplicate=True)
    builder = sources.build(both, tmp_path / "data")
    assert sorted(texts(builder)) == sorted(path.read_text() for path in tree.rglob("*.py"))
    assert builder.info.metadata["duplicates"] == 2


def test_values_that_are_no_text_are_skipped_and_counted(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "a.jsonl", [*TEXTS, None, 7, "\ud800"])
    write_parquet(tmp_path / "a.parquet", [*TEXTS, None])
    for source, skipped in (("jsonl", 3), ("parquet", 1)):
        builder = sources.build(config(source, tmp_path / f"a.{source}"), tmp_path / "data")
        assert sorted(texts(builder)) == sorted(TEXTS)
        assert builder.info.metadata["skipped"] == skipped


def test_rows_without_the_key_are_skipped_and_counted_unless_all_are(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "b.jsonl", TEXTS)
    (tmp_path / "a.jsonl").write_text('{"other": 1}\n{}\n{"text": null}\n')
    (tmp_path / "c.jsonl").write_text('{"code": "x"}\n')
    builder = sources.build(config("jsonl", tmp_path / "*.jsonl"), tmp_path / "data")
    assert sorted(texts(builder)) == sorted(TEXTS) and builder.info.metadata["skipped"] == 4
    with pytest.raises(ConfigError, match="c.jsonl, line 1: no 'text', which data.text names; it has code"):
        sources.build(config("jsonl", tmp_path / "c.jsonl"), tmp_path / "data")


def test_a_changed_file_is_read_anew(tmp_path: Path) -> None:
    settings = config("jsonl", tmp_path / "a.jsonl")
    write_jsonl(tmp_path / "a.jsonl", TEXTS)
    assert len(texts(sources.build(settings, tmp_path / "data"))) == len(TEXTS)
    write_jsonl(tmp_path / "a.jsonl", [*TEXTS, "one more"])
    assert "one more" in texts(sources.build(settings, tmp_path / "data"))


def test_the_tokenizer_is_trained_on_the_stated_sample(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "a.jsonl", TEXTS)
    settings = config("jsonl", tmp_path / "a.jsonl", tokenizer_characters=700)
    corpus = prepare(settings, 300, 15, tmp_path / "run")
    sample, size = [], 0
    for text in read_texts(sources.build(settings, tmp_path / "run" / "data"), "train"):
        if size < 700:
            sample.append(text)
            size += len(text)
    assert corpus.tokenizer.hash == train_sentencepiece(sample, 300, settings.symbols).hash
    assert len(sample) < 10
    with pytest.raises(ConfigError, match="another corpus"):
        prepare(dataclasses.replace(settings, tokenizer_characters=800), 300, 15, tmp_path / "run")


def refused(settings: DataConfig, folder: Path, *words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        sources.build(settings, folder)
    assert [word for word in words if word not in str(caught.value)] == [], caught.value
    assert "\n" not in str(caught.value)


def test_bad_rows_are_named(tmp_path: Path) -> None:
    (tmp_path / "bad.jsonl").write_text('{"text": "a"}\n\n{"text": \n')
    refused(config("jsonl", tmp_path / "bad.jsonl"), tmp_path, "bad.jsonl, line 3", "not JSON")
    (tmp_path / "list.jsonl").write_text("[1]\n")
    refused(config("jsonl", tmp_path / "list.jsonl"), tmp_path, "list.jsonl, line 1", "a list")
    write_jsonl(tmp_path / "other.jsonl", TEXTS, key="body")
    refused(config("jsonl", tmp_path / "other.jsonl"), tmp_path, "'text'", "data.text", "id, body")
    write_parquet(tmp_path / "other.parquet", TEXTS, key="body")
    refused(config("parquet", tmp_path / "other.parquet"), tmp_path, "'text'", "data.text", "body, id")
    (tmp_path / "cut.parquet").write_bytes((tmp_path / "other.parquet").read_bytes()[:200])
    refused(config("parquet", tmp_path / "cut.parquet"), tmp_path, "cut.parquet", "no readable Parquet")


def damaged(folder: Path) -> dict[str, bytes]:
    """Files of rows that cannot be read to their end, by name."""
    write_jsonl(folder / "whole.jsonl.gz", TEXTS * 9)
    write_parquet(folder / "whole.parquet", [text * 9 for text in TEXTS])
    packed, columns = ((folder / f"whole.{kind}").read_bytes() for kind in ("jsonl.gz", "parquet"))
    return {
        "cut.jsonl.gz": packed[:-20],
        "changed.jsonl.gz": packed[:40] + b"\xff" * 40 + packed[80:],
        "plain.jsonl.gz": b'{"text": "a"}\n',
        "latin.jsonl": b'{"text": "a"}\n{"text": "\xe9"}\n',
        "deep.jsonl": b'{"text":' + b"[" * 10**5 + b"]" * 10**5 + b"}",
        "changed.parquet": columns[:20] + b"\xff" * 40 + columns[60:],
        "empty.parquet": b"",
    }


def test_files_that_cannot_be_read_to_their_end_are_named(tmp_path: Path) -> None:
    for name, content in damaged(tmp_path).items():
        (tmp_path / name).write_bytes(content)
        source = "parquet" if name.endswith("parquet") else "jsonl"
        refused(config(source, tmp_path / name), tmp_path / "data", str(tmp_path / name))


def test_names_may_hold_what_patterns_are_made_of_and_files_a_byte_order_mark(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "a[1].jsonl", TEXTS)
    marked = tmp_path / "marked.jsonl"
    marked.write_bytes(b"\xef\xbb\xbf" + (tmp_path / "a[1].jsonl").read_bytes())
    for path in (tmp_path / "a[1].jsonl", marked):
        assert sorted(texts(sources.build(config("jsonl", path), tmp_path / "data"))) == sorted(TEXTS)


def test_a_version_that_tfds_has_not_is_named(tmp_path: Path) -> None:
    refused(config("tfds", tmp_path, name="mnist:9.9.9"), tmp_path, "'mnist:9.9.9'", "version 9.9.9")


def test_what_is_not_there_is_named(tmp_path: Path, tfds_folder: Path) -> None:
    refused(config("jsonl", tmp_path / "*.jsonl"), tmp_path, "no file matches", "*.jsonl")
    refused(config("parquet"), tmp_path, "needs data.roots")
    refused(config("tfds", tfds_folder), tmp_path, "data.name")
    refused(config("tfds", tfds_folder, name="lines"), tmp_path, "no feature 'text'", "content, number")
    refused(
        config("tfds", tfds_folder, name="no_such_thing"),
        tmp_path,
        "'no_such_thing' cannot be used",
        "not found",
    )
    refused(config("tfds", tfds_folder, tmp_path, name="lines"), tmp_path, "one folder as data.roots")
    with pytest.raises(ConfigError, match="data.source is 'csv'; choose one of python, tfds, jsonl, parquet"):
        config("csv")
    write_jsonl(tmp_path / "none.jsonl", [None])
    refused(config("jsonl", tmp_path / "none.jsonl"), tmp_path, "none of the rows of 1 files")
