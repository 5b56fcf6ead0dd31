"""Checkpoints: everything comes back bit for bit, and what is damaged is named."""

import shutil
import subprocess
import sys
from typing import NamedTuple

import flax.struct
import jax
import numpy as np
import optax
import pytest
from jax.sharding import SingleDeviceSharding

from circuits_jax.config import MeshConfig
from circuits_jax.storage.errors import CheckpointError
from circuits_jax.training import checkpoints as checkpoints_module
from circuits_jax.training.checkpoints import Checkpoints, newest
from circuits_jax.training.mesh import meshes
from tests.training.tiny import CONFIG, assert_equal, make_state, replace


@pytest.fixture(scope="module")
def states():
    return {step: make_state(CONFIG, seed=step) for step in (4, 8, 12)}


@pytest.fixture(scope="module")
def saved(states, tmp_path_factory):
    """A workdir with checkpoints 4 and 8."""
    workdir = tmp_path_factory.mktemp("saved")
    checkpoints = Checkpoints(workdir, keep=2)
    for step in (4, 8):
        checkpoints.save(step, states[step])
    checkpoints.close()
    return workdir


@pytest.fixture
def copy(saved, tmp_path):
    """A copy of it, to be damaged."""
    shutil.copytree(saved, tmp_path / "run")
    return tmp_path / "run"


def restore(workdir, like):
    checkpoints = Checkpoints(workdir)
    try:
        return checkpoints.restore(like)
    finally:
        checkpoints.close()


def folder(workdir, step):
    return workdir / "checkpoints" / str(step)


def test_the_whole_state_comes_back_bit_for_bit(saved, states):
    state = restore(saved, states[12])
    assert_equal(state, states[8])


def test_shapes_alone_serve_to_restore_onto_a_mesh(saved, states):
    whole = meshes.replicated(meshes.make_mesh(MeshConfig()))
    like = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=whole), states[8])
    state = restore(saved, like)
    assert_equal(state, states[8])
    assert {leaf.sharding for leaf in jax.tree.leaves(state)} == {whole}


def test_what_was_saved_on_eight_devices_is_restored_on_one(states, tmp_path):
    whole = meshes.replicated(meshes.make_mesh(MeshConfig()))
    checkpoints = Checkpoints(tmp_path, keep=1)
    checkpoints.save(4, jax.device_put(states[4], whole))
    one = SingleDeviceSharding(jax.devices()[0])
    like = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=one), states[4])
    state = checkpoints.restore(like)
    assert_equal(state, states[4])
    checkpoints.close()


def test_the_newest_ones_are_kept(copy, states):
    checkpoints = Checkpoints(copy, keep=2)
    assert checkpoints.latest == 8
    checkpoints.save(12, states[12])
    assert checkpoints.latest == 12
    checkpoints.close()
    assert names(copy) == ["12", "8"]
    assert_equal(restore(copy, states[4]), states[12])


def test_a_step_is_saved_once(copy, states):
    checkpoints = Checkpoints(copy, keep=2)
    checkpoints.save(8, states[12])
    checkpoints.close()
    assert_equal(restore(copy, states[4]), states[8])


def test_no_checkpoint_is_named_with_the_way_out(tmp_path, states):
    with pytest.raises(CheckpointError, match=rf"{tmp_path}.*python -m circuits_jax pretrain"):
        restore(tmp_path, states[4])


HALF_WRITTEN = ["12.orbax-checkpoint-tmp", "16.orbax-checkpoint-tmp-3"]


@pytest.fixture
def half_written(copy):
    """The copy, with what runs leave that are killed while they write."""
    for name in HALF_WRITTEN:
        shutil.copytree(folder(copy, 8), copy / "checkpoints" / name)
    return copy


def names(workdir):
    return sorted(path.name for path in (workdir / "checkpoints").iterdir())


def test_a_checkpoint_that_was_being_written_when_killed_is_passed_over_and_cleared_away(
    half_written, states
):
    checkpoints = Checkpoints(half_written, keep=2)
    assert checkpoints.latest == 8
    assert_equal(checkpoints.restore(states[4]), states[8])
    checkpoints.save(12, states[12])
    checkpoints.close()
    assert names(half_written) == ["12", "8"]


def test_readers_change_nothing_for_a_run_may_be_writing(half_written, states, tmp_path):
    assert_equal(restore(half_written, states[4]), states[8])
    assert names(half_written) == [*HALF_WRITTEN, "4", "8"]
    assert (newest(half_written), newest(tmp_path / "nowhere")) == (8, None)
    assert not (tmp_path / "nowhere").exists()


def test_reading_warns_of_nothing(saved, caplog):
    with caplog.at_level("WARNING", "absl"):
        assert newest(saved) is not None
    assert not caplog.records


def test_an_older_checkpoint_half_deleted_when_killed_does_not_matter(copy, states):
    shutil.rmtree(folder(copy, 4) / "state")
    assert_equal(restore(copy, states[4]), states[8])
    checkpoints = Checkpoints(copy, keep=2)
    checkpoints.save(12, states[12])
    checkpoints.close()
    assert names(copy) == ["12", "8"]


def data_files(step_folder):
    """Every file of a checkpoint that is not empty."""
    return sorted(path for path in step_folder.rglob("*") if path.is_file() and path.stat().st_size)


def damage(workdir, step):
    """What a full disk leaves of a checkpoint's values."""
    for path in (folder(workdir, step) / "state" / "ocdbt.process_0" / "d").iterdir():
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


@pytest.mark.parametrize("share", [0, pytest.param(0.5, marks=pytest.mark.slow)])
def test_files_cut_short_are_passed_over_or_do_not_matter(saved, states, tmp_path, share, capsys):
    """No file may be cut without either being noticed or leaving every value right."""
    noticed = set()
    for number, path in enumerate(data_files(folder(saved, 8))):
        workdir = tmp_path / str(number)
        shutil.copytree(saved, workdir)
        target = workdir / path.relative_to(saved)
        target.write_bytes(target.read_bytes()[: int(share * target.stat().st_size)])
        state, said = restore(workdir, states[4]), capsys.readouterr().out
        if said:
            noticed.add(path.name)
            assert f"checkpoint {folder(workdir, 8)} is damaged" in said and said.count("\n") == 1
            assert "checkpoint 4 is taken" in said and "delete" not in said
            assert_equal(state, states[4])
        else:
            assert_equal(state, states[8])
        assert folder(workdir, 8).is_dir()  # a reader changes nothing
    assert noticed


def test_a_run_puts_a_damaged_checkpoint_aside_and_saves_that_step_again(copy, states, capsys):
    shutil.rmtree(folder(copy, 8) / "state")
    checkpoints = Checkpoints(copy, keep=2)
    assert_equal(checkpoints.restore(states[12]), states[4])
    said = capsys.readouterr().out
    assert said.count("\n") == 1 and "damaged" in said and str(copy / "damaged" / "8") in said
    assert (copy / "damaged" / "8").is_dir() and checkpoints.latest == 4
    checkpoints.save(8, states[12])
    checkpoints.close()
    assert_equal(restore(copy, states[4]), states[12])
    assert names(copy) == ["4", "8"]


@pytest.mark.parametrize("pattern", ["*", "_METADATA", "d/*", "manifest.ocdbt"])
@pytest.mark.parametrize("keep", [None, 2])
def test_a_checkpoint_of_git_lfs_pointers_is_refused_and_none_is_taken_instead(copy, states, pattern, keep):
    for path in folder(copy, 8).rglob(pattern):
        if path.is_file():
            path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n")
    checkpoints = Checkpoints(copy, keep)
    with pytest.raises(CheckpointError, match=r"checkpoints/8/\S+ is a Git LFS pointer.*run git lfs pull"):
        checkpoints.restore(states[12])
    checkpoints.close()
    assert names(copy) == ["4", "8"]


def test_a_run_whose_every_checkpoint_is_damaged_is_refused_and_nothing_is_lost(copy, states):
    for step in (4, 8):
        damage(copy, step)
    checkpoints = Checkpoints(copy, keep=2)
    with pytest.raises(
        CheckpointError, match=rf"no checkpoint in {copy}.*can be read \(8: .*; 4: "
    ) as caught:
        checkpoints.restore(states[4])
    checkpoints.close()
    assert "delete" not in str(caught.value) and "\n" not in str(caught.value)
    assert names(copy) == ["4", "8"]


def test_parameters_are_read_without_the_rest_of_the_state(copy, states):
    """Whose files may be damaged, then, and which costs no memory."""
    checkpoints = Checkpoints(copy)
    params = checkpoints.restore_params(states[4].params)
    assert_equal(params, states[8].params)
    with pytest.raises(CheckpointError, match="of another configuration"):
        checkpoints.restore_params({"wte": states[4].params["wte"]})
    checkpoints.close()


class _OnlyStep(NamedTuple):
    """The projection's state of releases that guessed nothing."""

    step: jax.Array


def test_a_run_of_before_guesses_goes_on_without(states, tmp_path, capsys):
    state = states[8]
    *chain, projection = state.opt_state
    checkpoints = Checkpoints(tmp_path, keep=1)
    checkpoints.save(8, state.replace(opt_state=(*chain, _OnlyStep(projection.step))))
    fresh = jax.tree.map(lambda leaf: 0 * leaf, state)
    found = checkpoints.restore(state, lambda: fresh)
    checkpoints.close()
    assert_equal((found.params, found.opt_state[:-1]), (state.params, state.opt_state[:-1]))
    assert found.opt_state[-1].step == projection.step
    assert_equal(found.opt_state[-1].guesses, fresh.opt_state[-1].guesses)
    assert jax.tree.leaves(projection.guesses) and "begins anew" in capsys.readouterr().out


@flax.struct.dataclass
class Later:
    """A state of a release to come: one part more, and a longer chain in the optimizer."""

    step: jax.Array
    params: dict
    opt_state: tuple
    rng: jax.Array
    average: dict


def test_a_checkpoint_of_before_is_gone_on_from_and_what_is_new_begins_anew(saved, states, capsys):
    state = states[12]
    chain = (optax.EmptyState(), optax.TraceState(state.params), *state.opt_state)
    later = Later(state.step, state.params, chain, state.rng, state.params)
    checkpoints = Checkpoints(saved)
    found = checkpoints.restore(later, lambda: later)
    old = states[8]
    assert_equal(found.params, old.params)
    assert_equal(found.opt_state[2:], old.opt_state)
    assert_equal((found.step, found.rng), (old.step, old.rng))
    assert_equal((found.opt_state[1].trace, found.average), (state.params, state.params))
    said = capsys.readouterr().out
    assert said.count("\n") == 1 and "of an earlier release" in said
    with pytest.raises(CheckpointError, match="opt_state.1.trace.* is not there"):
        checkpoints.restore(later)
    short = Later(state.step, state.params, (), state.rng, {})  # and one that dropped parts
    assert_equal(checkpoints.restore(short), Later(old.step, old.params, (), old.rng, {}))
    checkpoints.close()


@pytest.mark.parametrize(
    "values",
    [
        {"d_mlp": 96},
        {"d_mlp": 32},
        {"n_layer": 2},
        {"tied_unembed": True},
        {"bias": False},
        {"vocab_size": 310},
    ],
    ids=str,
)
def test_a_checkpoint_of_another_model_is_refused(saved, values):
    with pytest.raises(CheckpointError, match=rf"{folder(saved, 8)}.*another\s+configuration") as caught:
        restore(saved, make_state(replace(CONFIG, "model", **values)))
    assert "delete" not in str(caught.value) and "\n" not in str(caught.value)


def test_the_best_ones_are_kept_beside_the_newest(states, tmp_path):
    checkpoints = Checkpoints(tmp_path, keep=1, keep_best=2)
    losses = {1: 3.0, 2: 1.0, 3: None, 4: 2.0, 5: 2.5, 6: None}
    for step, loss in losses.items():
        checkpoints.save(step, states[4], loss)
    checkpoints.close()
    assert names(tmp_path) == ["2", "4", "6"]


def test_a_state_may_be_changed_as_soon_as_save_returns(tmp_path):
    """Saving goes on in the background while the next step takes over the state's memory."""
    step = jax.jit(lambda x: jax.tree.map(lambda leaf: leaf + 1, x), donate_argnums=0)
    state = {"w": jax.numpy.zeros((1024, 1024)), "step": jax.numpy.zeros((), int)}
    checkpoints = Checkpoints(tmp_path, keep=10)
    for number in range(6):
        checkpoints.save(number, state)
        for _ in range(3):
            state = step(state)
    checkpoints.close()
    shapes = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), state)
    for number in range(5, -1, -1):
        restored = restore(tmp_path, shapes)
        assert int(restored["step"]) == 3 * number
        np.testing.assert_array_equal(restored["w"], 3.0 * number)
        shutil.rmtree(folder(tmp_path, number))


def test_a_disk_that_takes_no_more_is_reported_and_earlier_checkpoints_stay(copy, states):
    """As a full disk does, a limit on the size of files makes writing fail in the middle."""
    script = (
        "import resource, sys; from pathlib import Path\n"
        "import jax; from circuits_jax.storage.errors import CheckpointError\n"
        "from circuits_jax.commands.launching import quiet_libraries\n"
        "from circuits_jax.training.checkpoints import Checkpoints\n"
        "quiet_libraries()\n"
        "checkpoints = Checkpoints(Path(sys.argv[1]), keep=2)\n"
        "state = {'w': jax.random.normal(jax.random.key(0), (512, 512))}\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))\n"
        "try:\n"
        "    checkpoints.save(12, state); checkpoints.wait()\n"
        "except CheckpointError as error:\n"
        "    print(error)\n"
    )
    run = subprocess.run(
        [sys.executable, "-c", script, str(copy)], capture_output=True, text=True, timeout=120
    )
    assert "cannot be written" in run.stdout and "checkpoint 8 is intact" in run.stdout, (
        run.stdout + run.stderr
    )
    assert run.stdout.count("\n") == 1 and "Traceback" not in run.stderr
    assert_equal(restore(copy, states[12]), states[8])


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "run").write_text("a file")
    with pytest.raises(CheckpointError, match=r"cannot write to .*run/checkpoints"):
        Checkpoints(tmp_path / "run", keep=1)


def test_a_checkpoint_that_goes_while_the_folder_is_listed_is_no_error(tmp_path, monkeypatch):
    made, calls = checkpoints_module.ocp.CheckpointManager, []

    def listed(*args, **options):
        calls.append(args)
        if len(calls) == 1:
            raise FileNotFoundError(2, "No such file or directory", "checkpoints/160")
        return made(*args, **options)

    monkeypatch.setattr(checkpoints_module.ocp, "CheckpointManager", listed)
    assert newest(tmp_path) is None and len(calls) == 2
