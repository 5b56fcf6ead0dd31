"""experiments.pretrain as a command: killed at any moment it ends the same, and bad input is one line."""

import random
import shutil
import time

import jax
import pytest
from jax.sharding import SingleDeviceSharding

from circuits_jax.sparsity.optimizer import make_optimizer
from circuits_jax.training.checkpoints import Checkpoints
from circuits_jax.training.metrics import read_metrics
from circuits_jax.training.state import make_init
from circuits_jax.training.workdir import load_config
from tests.experiments.command import TINY, finish, kill_at, start
from tests.training.tiny import TIMES, assert_equal, write_programs

STEPS, LOG_EVERY = 240, 5
RHYTHM = (
    *(f"--config.train.steps={STEPS}", f"--config.train.log_every={LOG_EVERY}"),
    *("--config.train.checkpoint_every=12", "--config.train.eval_every=60", "--config.train.eval_batches=2"),
)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with a corpus and a place for compiled programs."""
    folder = tmp_path_factory.mktemp("place")
    write_programs(folder / "tree")
    (folder / "empty").mkdir()
    return folder


@pytest.fixture(scope="module")
def command(place):
    """Starts a tiny experiment in a workdir, flags added."""

    def run(workdir, *flags, module="pretrain", tree="tree"):
        paths = (f"--config.data.roots={place / tree}", f"--workdir={workdir}")
        return start(place / "programs", module, *TINY, *RHYTHM, *paths, *flags)

    return run


@pytest.fixture(scope="module")
def whole(command, place):
    """The workdir of an uninterrupted run."""
    code, out, errors = finish(command(place / "whole"))
    assert code == 0, errors
    assert errors == []
    assert "L0 in all" in out
    return place / "whole"


@pytest.fixture
def copy(whole, tmp_path):
    """A copy of it, to be spoiled."""
    return shutil.copytree(whole, tmp_path / "run")


def last_state(workdir):
    """The newest checkpoint."""
    config = load_config(workdir)
    one = SingleDeviceSharding(jax.devices()[0])
    shapes = jax.eval_shape(make_init(config, make_optimizer(config)))
    like = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=one), shapes)
    checkpoints = Checkpoints(workdir, keep=2)
    restored = checkpoints.restore(like)
    checkpoints.close()
    return restored


def rows(workdir):
    """metrics.jsonl without what depends on the clock."""
    return [{k: v for k, v in row.items() if k not in TIMES} for row in read_metrics(workdir)]


def assert_same_run(workdir, other):
    state, expected = last_state(workdir), last_state(other)
    assert int(state.step) == STEPS
    assert_equal(state, expected)
    assert [row["step"] for row in rows(workdir)] == list(range(LOG_EVERY, STEPS + 1, LOG_EVERY))
    assert rows(workdir) == rows(other)


def killed(command, workdir, count, delay=0.0):
    """Runs the command and kills it when `metrics.jsonl` has `count` rows, `delay` seconds later."""

    def ready():
        there = len(read_metrics(workdir)) >= count
        if there:
            time.sleep(delay)
        return there

    return kill_at(command(workdir), ready)


@pytest.mark.slow
def test_a_killed_run_ends_bit_for_bit_as_one_that_was_not(command, whole, tmp_path):
    assert killed(command, tmp_path / "run", random.randint(3, 20))
    code, _, errors = finish(command(tmp_path / "run"))
    assert code == 0, errors
    assert_same_run(tmp_path / "run", whole)


@pytest.mark.slow
def test_a_run_killed_again_and_again_ends_bit_for_bit_as_one_that_was_not(command, whole, tmp_path):
    """At random moments, of which many fall into the writing of a checkpoint; seven times in one workdir."""
    kills = 0
    for share in range(1, 8):
        kills += killed(command, tmp_path / "run", share * 6, random.uniform(0, 0.2))
    assert kills >= 5
    code, _, errors = finish(command(tmp_path / "run"))
    assert code == 0, errors
    assert_same_run(tmp_path / "run", whole)


@pytest.mark.slow
@pytest.mark.parametrize("delay", [1.0, 2.5, 4.0, 6.0])
def test_a_run_killed_while_it_prepares_ends_as_one_that_was_not(command, whole, tmp_path, delay):
    began = time.monotonic()
    kill_at(command(tmp_path / "run"), lambda: time.monotonic() > began + delay)
    code, _, errors = finish(command(tmp_path / "run"))
    assert code == 0, errors
    assert_same_run(tmp_path / "run", whole)


@pytest.mark.slow
def test_a_finished_run_called_again_changes_nothing(command, copy):
    before = {path: path.read_bytes() for path in copy.rglob("*") if path.is_file()}
    code, _, errors = finish(command(copy))
    assert code == 0, errors
    assert {path: path.read_bytes() for path in copy.rglob("*") if path.is_file()} == before


def refused(process, *words):
    """The error of a command: exit code not 0, one line on stderr that holds `words`."""
    code, _, errors = finish(process)
    assert code != 0
    assert len(errors) == 1, errors
    assert [word for word in words if word not in errors[0]] == []
    return errors[0]


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--config.model.nonsense=1"], ["model.nonsense", "n_layer"]),
        (["--config.sparsity.target=0"], ["sparsity.target", "0.0", "(0, 1]"]),
        (["--config.sparsity.target=1.5"], ["sparsity.target", "1.5", "(0, 1]"]),
        (["stray"], ["'stray'", "--flag=value"]),
        (["--workdir="], ["--workdir is empty"]),
    ],
    ids=["unknown key", "target 0", "target 1.5", "stray argument", "no workdir"],
)
def test_settings_that_cannot_be_used_are_refused_before_anything_is_written(command, tmp_path, flags, words):
    refused(command(tmp_path / "run", *flags), *words)
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_an_empty_corpus_is_refused(command, place, tmp_path):
    refused(command(tmp_path / "run", tree="empty"), str(place / "empty"), "data.roots")
    assert not (tmp_path / "run" / "config.json").exists()


@pytest.mark.slow
def test_a_vocabulary_too_large_for_the_corpus_is_refused(command, tmp_path):
    refused(
        command(tmp_path / "run", "--config.model.vocab_size=5000"), "model.vocab_size", "5000", "or less"
    )
    assert not (tmp_path / "run" / "config.json").exists()


@pytest.mark.slow
def test_a_window_longer_than_a_split_is_refused_and_the_way_out_works(command, whole, tmp_path):
    refused(command(tmp_path / "run", "--config.model.n_ctx=5000"), "model.n_ctx", "5001", "split")
    assert not (tmp_path / "run" / "checkpoints").exists()
    code, _, errors = finish(command(tmp_path / "run"))
    assert code == 0, errors
    assert_same_run(tmp_path / "run", whole)


def test_the_workdir_of_another_configuration_is_refused_and_left_alone(command, copy):
    before = {path: path.read_bytes() for path in copy.rglob("*") if path.is_file()}
    refused(
        command(copy, "--config.model.n_layer=2"), str(copy), "model.n_layer is 1 there, 2 here", "--workdir"
    )
    assert {path: path.read_bytes() for path in copy.rglob("*") if path.is_file()} == before


@pytest.mark.slow
def test_a_truncated_checkpoint_costs_the_steps_since_the_one_before(command, copy, whole):
    newest = copy / "checkpoints" / str(STEPS)
    for path in (newest / "state" / "ocdbt.process_0" / "d").iterdir():
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    code, out, errors = finish(command(copy))
    assert code == 0, errors
    (line,) = [line for line in out.splitlines() if "is damaged" in line]
    assert all(
        word in line for word in (str(newest), f"checkpoint {STEPS - 12} is taken", str(copy / "damaged"))
    )
    assert_same_run(copy, whole)


@pytest.mark.slow
def test_an_unknown_task_is_named_with_the_known_ones(command, copy):
    flag = '--config.prune.tasks=("bracket_counting","nonsense")'
    refused(command(copy, flag, module="prune"), "nonsense", "single_double_quote")
    assert not (copy / "circuits").exists()
    assert not (copy / "prune.json").exists()


@pytest.mark.slow
def test_pruning_without_a_run_is_refused(command, tmp_path):
    refused(
        command(tmp_path / "run", module="prune"), str(tmp_path / "run"), "python -m circuits_jax pretrain"
    )
    assert not (tmp_path / "run").exists()
