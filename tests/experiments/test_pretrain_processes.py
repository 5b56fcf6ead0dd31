"""experiments.pretrain as two processes on this machine: one result, and one end."""

import signal
import socket
import subprocess
import sys
import time

import jax
import numpy as np
import pytest

from circuits_jax.runs.opening import load_model
from circuits_jax.training.metrics import read_metrics
from tests.experiments.command import ROOT, TINY, finish, kill_at, start
from tests.experiments.test_pretrain import last_state
from tests.training.tiny import assert_equal, write_programs

STEPS = 60
RHYTHM = (
    *(f"--config.train.steps={STEPS}", "--config.train.log_every=5", "--config.train.checkpoint_every=6"),
    *("--config.train.eval_every=30", "--config.train.eval_batches=2"),
    *("--config.train.seed=1", "--config.data.seed=0"),
)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("processes")
    write_programs(folder / "tree")
    return folder


@pytest.fixture(scope="module")
def command(place):
    """Starts the command in a workdir, flags added."""

    def run(workdir, *flags):
        paths = (f"--config.data.roots={place / 'tree'}", f"--workdir={workdir}")
        return start(place / "programs", "pretrain", *TINY, *RHYTHM, *paths, *flags)

    return run


@pytest.fixture(scope="module")
def whole(command, place):
    """The workdir of an uninterrupted run of one process with two devices."""
    code, _, errors = finish(command(place / "whole", "--cpu_devices=2"))
    assert code == 0, errors
    return place / "whole"


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def pair(command, workdir, *flags):
    """The command as two processes of one device each."""
    address = f"--coordinator=127.0.0.1:{free_port()}"
    return [command(workdir, address, "--processes=2", f"--process={index}", *flags) for index in (0, 1)]


def errors_of(lines):
    return [line for line in lines if line.startswith("error:")]


def assert_near(workdir, other):
    """The same run but for rounding: which devices add up what."""
    first, second = read_metrics(workdir), read_metrics(other)
    assert [row["step"] for row in first] == [row["step"] for row in second]
    for row, expected in zip(first, second, strict=True):
        np.testing.assert_allclose(row["loss"], expected["loss"], rtol=0, atol=1e-4)
    state, expected = last_state(workdir), last_state(other)
    assert int(state.step) == int(expected.step) == STEPS
    for a, b in zip(jax.tree.leaves(state.params), jax.tree.leaves(expected.params), strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-3)


@pytest.mark.slow
def test_a_pair_of_which_one_is_killed_ends_and_one_process_goes_on_as_if_nothing_had_been(
    command, whole, tmp_path
):
    workdir = tmp_path / "run"
    first, second = pair(command, workdir)
    assert kill_at(second, lambda: len(read_metrics(workdir)) >= 4)
    code, out, errors = finish(first, timeout=60)
    assert code != 0
    (line,) = errors_of(errors)
    assert "process 1 of 2 is gone" in line and "goes on from the newest checkpoint" in line
    assert "2 processes" in out
    reached = read_metrics(workdir)
    assert 4 <= len(reached) < len(read_metrics(whole))
    for row, expected in zip(reached, read_metrics(whole), strict=False):
        np.testing.assert_allclose(row["loss"], expected["loss"], rtol=0, atol=1e-5)
    code, _, errors = finish(command(workdir))
    assert code == 0, errors
    assert_near(workdir, whole)


@pytest.mark.slow
def test_a_pair_gives_the_result_of_one_process_and_a_killed_pair_that_of_a_pair(command, whole, tmp_path):
    for process in pair(command, tmp_path / "pair"):
        code, _, errors = finish(process)
        assert code == 0, errors
    assert_near(tmp_path / "pair", whole)
    for victim in (0, 1):
        workdir, rows = tmp_path / f"killed_{victim}", 5 + 7 * victim
        both = pair(command, workdir)
        assert kill_at(both[victim], lambda at=workdir, rows=rows: len(read_metrics(at)) >= rows)
        code, _, errors = finish(both[1 - victim], timeout=60)
        assert code != 0
        assert any(f"process {victim} of 2 is gone" in line for line in errors), errors
        for process in pair(command, workdir):
            code, _, errors = finish(process)
            assert code == 0, errors
        assert_equal(last_state(workdir), last_state(tmp_path / "pair"))


@pytest.mark.slow
def test_a_pair_that_takes_several_steps_at_once_gives_the_same(command, whole, tmp_path):
    for process in pair(command, tmp_path / "pair", "--config.mesh.steps_at_once=5"):
        code, _, errors = finish(process)
        assert code == 0, errors
    assert_near(tmp_path / "pair", whole)


@pytest.mark.slow
def test_a_pair_of_which_one_falls_silent_ends_within_a_minute(command, tmp_path):
    first, second = pair(command, tmp_path / "run")
    while len(read_metrics(tmp_path / "run")) < 2:
        assert first.poll() is None and second.poll() is None
        time.sleep(0.05)
    second.send_signal(signal.SIGSTOP)
    try:
        code, _, errors = finish(first, timeout=60)
    finally:
        second.kill()
        second.communicate()
    assert code != 0
    assert any("process 1 of 2 is silent" in line for line in errors), errors


@pytest.mark.slow
def test_a_pair_asked_to_stop_stops_after_the_same_step_and_goes_on(command, whole, tmp_path):
    workdir = tmp_path / "run"
    both = pair(command, workdir)
    while len(read_metrics(workdir)) < 4:
        assert both[0].poll() is None
        time.sleep(0.01)
    both[1].send_signal(signal.SIGTERM)
    outcomes = [finish(process) for process in both]
    assert [code for code, _, _ in outcomes] == [143, 143]
    assert all("asked to stop (SIGTERM) after step" in out for _, out, _ in outcomes)
    for process in pair(command, workdir, "--config.mesh.data=1", "--config.mesh.fsdp=2"):
        code, _, errors = finish(process)
        assert code == 0, errors
    assert_near(workdir, whole)


@pytest.mark.slow
def test_processes_that_disagree_are_told_where(command, tmp_path):
    address = f"--coordinator=127.0.0.1:{free_port()}"
    both = [
        command(
            tmp_path / "run", address, "--processes=2", f"--process={index}", f"--config.data.seed={index}"
        )
        for index in (0, 1)
    ]
    for process in both:
        code, _, errors = finish(process)
        assert code == 1
        told = errors_of(errors)
        assert any("data.seed is 0 in process 0, 1 there" in line or "is gone" in line for line in told), (
            errors
        )
    assert not (tmp_path / "run" / "config.json").exists()


def test_a_coordinator_that_is_not_there_is_named(command, tmp_path):
    address = f"127.0.0.1:{free_port()}"
    flags = (f"--coordinator={address}", "--processes=2", "--process=1", "--join_timeout=2")
    code, _, errors = finish(command(tmp_path / "run", *flags))
    assert code == 1
    (line,) = errors
    assert address in line and "2 seconds" in line


@pytest.mark.slow
def test_a_process_that_never_comes_is_missed(command, tmp_path):
    address = f"127.0.0.1:{free_port()}"
    flags = (f"--coordinator={address}", "--processes=2", "--process=0", "--join_timeout=5")
    code, _, errors = finish(command(tmp_path / "run", *flags))
    assert code == 1
    assert any(address in line and "5 seconds" in line for line in errors_of(errors)), errors


@pytest.mark.slow
def test_several_processes_read_a_run_each_for_itself(whole):
    """As `train.start_from` and bridges do: no process may ask for the devices of another."""
    script = (
        "import sys; from pathlib import Path\n"
        "import jax, numpy as np\n"
        "from circuits_jax.runs.opening import load_model\n"
        "from circuits_jax.training.multihost.processes import together\n"
        "with together(sys.argv[1], 2, int(sys.argv[2]), 60):\n"
        "    params = load_model(Path(sys.argv[3])).params\n"
        "    print(jax.process_count(), float(sum(np.abs(leaf).sum() for leaf in jax.tree.leaves(params))))\n"
    )
    address = f"127.0.0.1:{free_port()}"
    both = [
        subprocess.Popen(
            [sys.executable, "-c", script, address, str(index), str(whole)],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for index in (0, 1)
    ]
    outcomes = [finish(process) for process in both]
    assert [code for code, _, _ in outcomes] == [0, 0], outcomes
    total = sum(np.abs(leaf).sum() for leaf in jax.tree.leaves(load_model(whole).params))
    for _, out, _ in outcomes:
        count, found = out.split()[-2:]
        assert count == "2"
        np.testing.assert_allclose(float(found), total, rtol=1e-6)


@pytest.mark.slow
def test_processes_without_a_place_to_meet_are_refused(command, tmp_path):
    code, _, errors = finish(command(tmp_path / "run", "--processes=2", "--process=1"))
    assert code == 1
    assert len(errors) == 1 and "need --coordinator" in errors[0]
    code, _, errors = finish(command(tmp_path / "run", "--distributed", "--coordinator=127.0.0.1:1"))
    assert code == 1
    assert len(errors) == 1 and "drop it or --coordinator" in errors[0]
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("flags", [("--processes=2",), ("--process=2", "--processes=2")], ids=str)
def test_numbers_of_processes_that_make_no_sense_are_refused(command, tmp_path, flags):
    code, _, errors = finish(command(tmp_path / "run", "--coordinator=127.0.0.1:1", *flags))
    assert code == 1
    assert len(errors) == 1 and "--processes and --process" in errors[0]
