"""One search at a time in a folder of circuits; what is finished is read all the same."""

import contextlib
import types

import pytest

from circuits_jax import released
from circuits_jax.config import PruneConfig
from circuits_jax.runs import importing, pruning
from circuits_jax.runs.pruning import LOCK, Outcome, prune_tasks
from circuits_jax.storage.errors import CheckpointError, LockError, UserError
from circuits_jax.storage.locks import locked
from circuits_jax.tasks import get_task

TASK = get_task("with_as")


@pytest.fixture
def run(tmp_path, monkeypatch):
    """A run whose search finds one circuit, of no content; `there` says which are finished."""
    monkeypatch.setattr(pruning, "settings_for", lambda run, tasks, prune: prune)
    monkeypatch.setattr(pruning, "task_splits", lambda *rest: types.SimpleNamespace(test=None))
    there = {}
    monkeypatch.setattr(pruning, "finished", lambda folder, *rest: there.get(folder.name))
    monkeypatch.setattr(pruning, "keep_pairs", lambda *rest: None)
    searched = []

    def search(run, prune, missing, files, allow, folder):
        searched.append(list(missing))
        with pytest.raises(LockError, match="is in use by process"):
            prune_tasks(run, [TASK], prune)
        yield Outcome(TASK.name, "circuit", None, None)

    monkeypatch.setattr(pruning, "_search", search)
    model = types.SimpleNamespace(hash="0" * 64)
    return types.SimpleNamespace(folder=tmp_path / "run", model=model, there=there, searched=searched)


def test_a_second_search_in_the_same_folder_is_refused(run):
    (found,) = prune_tasks(run, [TASK], PruneConfig())
    assert found.circuit == "circuit" and run.searched == [[TASK.name]]
    with locked(run.folder):  # as the run that trains and prunes has it
        assert prune_tasks(run, [TASK], PruneConfig())
    with locked(run.folder / "circuits", LOCK):
        assert prune_tasks(run, [TASK], PruneConfig(), folder=run.folder / "ablations")


def test_what_is_finished_is_read_while_another_searches_and_where_nothing_can_be_written(run, monkeypatch):
    run.there[TASK.name] = "finished"
    with locked(run.folder / "circuits", LOCK):
        assert prune_tasks(run, [TASK], PruneConfig())[0].circuit == "finished"
    (run.folder / "file").write_text("")
    assert prune_tasks(run, [TASK], PruneConfig(), folder=run.folder / "file")[0].circuit == "finished"
    run.there.clear()
    with pytest.raises(UserError, match="cannot write to .*file: "):
        prune_tasks(run, [TASK], PruneConfig(), folder=run.folder / "file")
    assert run.searched == []


def test_a_finished_circuit_of_a_task_that_counts_as_learnt_no_more_is_refused_and_kept(run):
    circuit = types.SimpleNamespace(metrics={"full/select/calibrated_loss": 0.3})
    run.there[TASK.name] = circuit
    assert prune_tasks(run, [TASK], PruneConfig(learnt=0.3))[0].circuit is circuit
    (found,) = prune_tasks(run, [TASK], PruneConfig(learnt=0.2))
    assert found.circuit is None and "has not learnt with_as" in found.refusal and run.searched == []
    assert prune_tasks(run, [TASK], PruneConfig(learnt=0.2), allow_unlearned=True)[0].circuit is circuit


def test_what_another_process_found_before_the_lock_was_ours_is_not_searched_again(run, monkeypatch):
    @contextlib.contextmanager
    def taken(folder, name):
        run.there[TASK.name] = "finished"
        yield

    monkeypatch.setattr(pruning, "locked", taken)
    (found,) = prune_tasks(run, [TASK], PruneConfig())
    assert found.circuit == "finished" and run.searched == []


def test_a_model_is_imported_by_one_process_at_a_time(tmp_path, monkeypatch):
    def load(*rest):
        with pytest.raises(LockError, match="is in use by process"):
            released.as_workdir("x", tmp_path)
        raise CheckpointError("no model")

    monkeypatch.setattr("circuits_jax.released.workdir.load_any", load)
    with pytest.raises(CheckpointError, match="no model"):
        importing.import_model("x", tmp_path)
    assert tmp_path.exists()
    monkeypatch.setattr("circuits_jax.released.workdir.load_any", lambda *rest: {}["broken"])
    with pytest.raises(KeyError):
        importing.import_model("x", tmp_path / "new" / "run")
    assert not (tmp_path / "new").exists()
