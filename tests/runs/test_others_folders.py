"""Runs of other people, whose folders cannot be written or read."""

import errno

import pytest

from circuits_jax.config import Config
from circuits_jax.model.model import Model
from circuits_jax.runs import corpora, importing
from circuits_jax.runs.inspection import inspect_model
from circuits_jax.runs.run import Run
from circuits_jax.storage import notices
from circuits_jax.storage.errors import CorpusError, UserError
from circuits_jax.tasks import TASKS
from tests.released.models import TINY, random_params


@pytest.mark.parametrize("why", [CorpusError("the corpus lies in none of a, b"), UserError("read-only")])
def test_a_model_without_a_corpus_is_inspected_and_why_is_told(tmp_path, monkeypatch, capsys, why):
    def refuse(*given):
        raise why

    monkeypatch.setattr("circuits_jax.runs.run.open_corpus", refuse)
    model = Model(TINY, random_params(TINY), source=str(tmp_path))
    rows, summary = inspect_model(Run(model, tmp_path, Config(model=TINY)), windows=2)
    assert rows and "L0" in summary and not any(name.startswith("never nonzero") for name in summary)
    notices.tell()
    assert capsys.readouterr().err == f"note: units that are never nonzero are left out: {why}\n"


def test_a_circuit_is_not_fetched_for_a_folder_that_cannot_be_written(tmp_path, monkeypatch):
    monkeypatch.setattr(importing, "fetched_file", lambda *_: pytest.fail("it was fetched"))
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot write to .*file: Not a directory"):
        importing.import_circuit(
            "hf:owner/name/x.pt", TASKS["bracket_counting"], Run(None, tmp_path / "file")
        )


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("run/data/x", "the corpus cannot be written to .*run "),
        ("tree/a.py", "^\\S*/tree/a.py cannot be used: "),
    ],
)
def test_the_file_that_is_in_the_way_is_named(tmp_path, name, told):
    error = OSError(errno.EACCES, "Permission denied", str(tmp_path / name))
    with pytest.raises(UserError, match=told), corpora._writable(tmp_path / "run"):
        raise error
