"""Runs that are asked to stop, by every signal and at any moment, and two runs in one workdir."""

import signal
import time
from pathlib import Path

import pytest

from circuits_jax.training.metrics import read_metrics
from tests.experiments.command import TINY, finish, start
from tests.training.tiny import write_programs

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="looks at Linux's /proc"),
]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Starts a run that would take hours in a workdir."""
    place = tmp_path_factory.mktemp("place")
    write_programs(place / "tree")
    flags = ("--config.train.steps=1000000", "--config.train.log_every=5", "--config.train.eval_batches=1")

    def begin(workdir):
        paths = (f"--config.data.roots={place / 'tree'}", f"--workdir={workdir}")
        return start(place / "programs", "pretrain", *TINY, *flags, *paths)

    return begin


def wait_until(process, ready):
    while not ready():
        assert process.poll() is None, process.communicate()
        time.sleep(0.01)


def minds(process):
    """Whether it has handlers: until then it is Python that starts, not a command of ours."""
    lines = Path(f"/proc/{process.pid}/status").read_text().splitlines()
    (caught,) = (line.split()[1] for line in lines if line.startswith("SigCgt"))
    return bool(int(caught, 16) >> (signal.SIGUSR2 - 1) & 1)


MOMENTS = {
    "imports": lambda workdir: True,
    "corpus": lambda workdir: (workdir / ".lock").exists(),
    "compiling": lambda workdir: (workdir / "config.json").exists(),
    "training": lambda workdir: len(read_metrics(workdir)) > 2,
}


@pytest.mark.parametrize("moment", MOMENTS)
@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1", "SIGUSR2"])
def test_a_run_that_is_asked_to_stop_says_so_in_one_line_and_goes_on(run, tmp_path, moment, name):
    process = run(tmp_path / "run")
    wait_until(process, lambda: minds(process))
    wait_until(process, lambda: MOMENTS[moment](tmp_path / "run"))
    process.send_signal(getattr(signal, name))
    asked = time.monotonic()
    code, out, errors = finish(process)
    assert time.monotonic() - asked < 30
    assert code == 128 + getattr(signal, name) and errors == [], (code, out, errors)
    told = out.splitlines()[-1]
    assert f"asked to stop ({name})" in told
    assert (" which is saved; the same command goes on from it" in told) == (moment == "training")
    if moment == "training":
        step = int(told.split("after step ")[1].split(",")[0])
        assert (tmp_path / "run" / "checkpoints" / str(step)).is_dir()


def test_a_second_run_in_a_workdir_is_told_who_is_there_and_a_killed_one_is_there_no_longer(run, tmp_path):
    first = run(tmp_path / "run")
    wait_until(first, lambda: len(read_metrics(tmp_path / "run")) > 2)
    code, _, errors = finish(run(tmp_path / "run"))
    assert code == 1 and len(errors) == 1
    assert f"is in use by process {first.pid} on " in errors[0] and "since 20" in errors[0]
    first.kill()
    first.communicate()
    again = run(tmp_path / "run")
    wait_until(again, lambda: f'"process": {again.pid}' in (tmp_path / "run" / ".lock").read_text())
    again.send_signal(signal.SIGINT)
    assert finish(again)[0] == 130
