"""Whole runs: trained, stopped, resumed, gone wrong."""

import contextlib
import shutil
import types

import jax
import numpy as np
import pytest

from circuits_jax.config import Config, MeshConfig, ProfileConfig, TrainConfig
from circuits_jax.storage.errors import CheckpointError, TrainingError
from circuits_jax.training.checkpoints import Checkpoints
from circuits_jax.training.loop import Trainer, bits_per_byte
from circuits_jax.training.metrics import read_metrics
from circuits_jax.training.run import read_run
from tests.training.tiny import TIMES, assert_equal, make_state, make_trainer, replace, rows, saved_steps


def breaking(trainer, at, fault):
    """Makes `trainer` take its steps as it does, but for step `at`, whose result goes through `fault`."""
    step = trainer.step

    def broken(state, batch, frozen):
        number = int(state.step) + 1
        state, metrics = step(state, batch, frozen)
        return fault(state, metrics) if number == at else (state, metrics)

    trainer.step = broken
    return trainer


def test_a_run_learns_and_ends_at_its_budget(whole, base):
    workdir, trainer, state = whole
    found = read_metrics(workdir)
    assert [row["step"] for row in found] == [2, 3, 4, 6, 8, 9, 10, 12]  # logged, evaluated or both
    assert found[-1]["loss"] < found[0]["loss"] - 0.3
    assert 0 < found[-1]["validation_loss"] < np.log(300)
    assert int(state.step) == 12 and trainer.step._cache_size() == 1
    kernel = np.asarray(state.params["h_0"]["mlp"]["c_proj"]["kernel"])
    assert np.count_nonzero(kernel) == kernel.size // 8


def test_every_figure_is_in_the_rows(whole):
    found = read_metrics(whole[0])
    always = {"step", "loss", "gradient_rms", "learning_rate", "l0", "l0_without_embeddings"}
    always |= {"dead_neurons", "dead_channels", *TIMES}
    evaluated = {"validation_loss", "never_active_neurons", "never_active_channels"}
    evaluated |= {"validation_bits_per_byte"}
    for row in found:
        logged = {"support_churn"} if row["step"] % 2 == 0 else set()
        assert set(row) == always | logged | (evaluated if row["step"] % 3 == 0 else set()), row["step"]
        assert row["tokens_per_second"] > 0 and 0 < row["goodput"] < 1 and 0 <= row["data_wait"] < 1


def test_bits_a_byte_do_not_depend_on_how_long_tokens_are():
    uniform = {
        length: np.log(256.0) * length for length in (1, 4)
    }  # nats a token of a model that knows nothing
    for length, loss in uniform.items():
        found = bits_per_byte({"files": 1, "bytes": 120, "tokens": 120 // length})
        assert loss * found == pytest.approx(8)
    assert bits_per_byte({"files": 0, "bytes": 0, "tokens": 0}) is None and bits_per_byte({}) is None


def test_the_newest_checkpoints_are_kept_and_hold_the_last_state(whole):
    workdir, _, state = whole
    assert saved_steps(workdir) == [8, 12]
    config, model = read_run(workdir, lambda _: pytest.fail("its corpus is not needed"))
    assert_equal(model.params, jax.device_get(state.params))
    assert {type(leaf) for leaf in jax.tree.leaves(model.params)} == {np.ndarray}
    assert config.train.steps == 12 and model.tokenizer.vocab_size == 300
    assert model.config == config.model and model.source == str(workdir)


def test_a_finished_run_is_left_as_it_is(whole, base, tmp_path):
    shutil.copytree(whole[0], tmp_path / "run")
    before = (tmp_path / "run" / "metrics.jsonl").read_bytes()
    trainer = breaking(
        make_trainer(base[0], base[1], tmp_path / "run"), 13, lambda *_: pytest.fail("a step too many")
    )
    assert_equal(trainer.run(), whole[2])
    assert (tmp_path / "run" / "metrics.jsonl").read_bytes() == before


def test_a_stopped_run_goes_on_bit_for_bit(whole, fresh):
    """Stopped by a loss that is not finite, with rows of metrics after its checkpoint."""
    config, corpus, workdir = fresh
    spoil = lambda state, metrics: (state, metrics | {"loss": np.float32(np.nan)})  # noqa: E731
    with pytest.raises(TrainingError, match=r"loss is nan at step 7; checkpoint 4 is intact"):
        breaking(make_trainer(config, corpus, workdir), 7, spoil).run()
    assert saved_steps(workdir) == [4]
    assert [row["step"] for row in rows(workdir)] == [2, 3, 4, 6]
    state = make_trainer(config, corpus, workdir).run()
    assert_equal(state, whole[2])
    assert rows(workdir) == rows(whole[0])
    assert saved_steps(workdir) == [8, 12]


@pytest.mark.slow
def test_a_run_stopped_before_its_first_checkpoint_says_so_and_starts_again(whole, fresh):
    config, corpus, workdir = fresh
    spoil = lambda state, metrics: (state, metrics | {"loss": np.float32(np.inf)})  # noqa: E731
    with pytest.raises(TrainingError, match=r"inf at step 3; there is no checkpoint yet"):
        breaking(make_trainer(config, corpus, workdir), 3, spoil).run()
    assert saved_steps(workdir) == []
    assert_equal(make_trainer(config, corpus, workdir).run(), whole[2])
    assert rows(workdir) == rows(whole[0])


@pytest.mark.slow
def test_parameters_that_are_not_finite_are_never_saved(fresh):
    """The loss of a step is that of the parameters before it: a finite one may hide an update that is not."""
    config, corpus, workdir = fresh
    config = replace(config, "optimizer", learning_rate=1e39)
    config = replace(config, "train", checkpoint_every=1)
    with pytest.raises(TrainingError, match=r"step [12]\b.*there is no checkpoint yet"):
        make_trainer(config, corpus, workdir).run()
    assert saved_steps(workdir) == []


def test_a_damaged_newest_checkpoint_costs_the_steps_since_the_one_before(whole, base, tmp_path, capsys):
    config, corpus, _ = base
    workdir = tmp_path / "run"
    shutil.copytree(whole[0], workdir)
    for path in (workdir / "checkpoints" / "12" / "state" / "ocdbt.process_0" / "d").iterdir():
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    assert_equal(make_trainer(config, corpus, workdir).run(), whole[2])
    assert "checkpoints/12 is damaged" in capsys.readouterr().out
    assert rows(workdir) == rows(whole[0])
    assert saved_steps(workdir) == [8, 12] and (workdir / "damaged" / "12").is_dir()


def test_a_checkpoint_that_holds_nan_says_so(fresh):
    config, corpus, workdir = fresh
    state = make_state(config)
    poisoned = jax.tree.map(np.array, state.params)
    poisoned["h_0"]["mlp"]["c_fc"]["bias"][3] = np.nan
    with contextlib.closing(Checkpoints(workdir, keep=2)) as checkpoints:
        checkpoints.save(4, state.replace(params=poisoned))
    with pytest.raises(CheckpointError, match=r"checkpoint \d+ in .* holds NaN or infinity, in .*c_fc/bias"):
        make_trainer(config, corpus, workdir).run()


def test_several_steps_in_one_call_are_those_one_by_one(whole, fresh):
    """Also stopped and gone on with; saved, logged and evaluated alike."""
    config, corpus, workdir = fresh
    config = replace(config, "mesh", steps_at_once=2)
    counts = []

    def counting(trainer):
        take = trainer._take
        trainer._take = lambda state, batches: (counts.append(len(batches)), take(state, batches))[1]
        return trainer

    spoil = lambda state, metrics: (state, metrics | {"loss": np.float32(np.nan)})  # noqa: E731
    with pytest.raises(TrainingError, match=r"loss is nan by step 9; checkpoint 8 is intact"):
        breaking(counting(make_trainer(config, corpus, workdir)), 9, spoil).run()
    state = counting(make_trainer(config, corpus, workdir)).run()
    # Looked at after 2, 3, 4, 6, 8, 9, 10 and 12.
    assert counts == [2, 1, 1, 2, 2, 1] + [1, 1, 2]
    assert [row["step"] for row in rows(workdir)] == [row["step"] for row in rows(whole[0])]
    for ours, theirs in zip(rows(workdir), rows(whole[0]), strict=True):
        assert ours.keys() == theirs.keys()
        assert ours["loss"] == pytest.approx(theirs["loss"], abs=1e-4), ours["step"]
    for ours, theirs in zip(jax.tree.leaves(state.params), jax.tree.leaves(whole[2].params), strict=True):
        np.testing.assert_array_equal(ours != 0, theirs != 0)
    assert saved_steps(workdir) == saved_steps(whole[0])


@pytest.mark.parametrize("together", [2, 4, 12])
@pytest.mark.parametrize("traced", [(), (5, 9), (6, 6)])
def test_no_call_steps_over_a_step_that_something_looks_at(together, traced):
    """Wherever a run goes on from; and where nothing looks, calls take all the steps that they may."""
    train = TrainConfig(steps=60, log_every=12, eval_every=21, checkpoint_every=20)
    config = Config(train=train, mesh=MeshConfig(steps_at_once=together), profile=ProfileConfig(steps=traced))
    trainer = types.SimpleNamespace(config=config, _kept=frozenset({47}))
    looked = {*range(12, 61, 12), 21, 42, 20, 40, 47, 60}
    looked |= {traced[0] - 1, traced[1]} if traced else set()
    for first in range(60):
        step, ends, counts = first, {first}, []
        while step < 60:
            counts.append(Trainer._steps_ahead(trainer, step))
            step += counts[-1]
            ends.add(step)
        assert step == 60 and looked - set(range(first)) <= ends
        assert set(counts) <= {1, together} and (together == 12 or together in counts or first > 45)
