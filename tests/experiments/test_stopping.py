"""Commands that are asked to stop, by every signal and at any moment, and two runs in one workdir."""

import json
import signal
import time
from pathlib import Path

import pytest

from circuits_jax.circuits.circuit import load_circuit
from circuits_jax.config import PruneConfig
from circuits_jax.data.programs.words import SPLITS
from circuits_jax.runs.opening import load_workdir
from circuits_jax.training.metrics import read_metrics
from tests.experiments.circuits import every_third_node
from tests.experiments.command import TINY, finish, start, start_python
from tests.experiments.test_bridges import FLAGS, write_task
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


# The command as it is, but for its refusal of what a model does not know: this one knows nothing.
PRUNING = (
    "import sys; from circuits_jax.circuits.pruning import sweep; sweep.check_known = lambda *given: None; "
    "from circuits_jax.__main__ import run; run('prune', sys.argv[1:])"
)
FOREVER = 1_000_000


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A folder with a run, and two tasks of any tokenizer."""
    place = tmp_path_factory.mktemp("trained")
    write_programs(place / "tree")
    for name in ("first", "second"):
        write_task(place / f"{name}.jsonl")
    paths = (f"--config.data.roots={place / 'tree'}", f"--workdir={place / 'run'}")
    code, _, errors = finish(start(place / "programs", "pretrain", *FLAGS, *paths))
    assert code == 0, errors
    return place


def tasks_of(place):
    return f"--tasks={place / 'first.jsonl'},{place / 'second.jsonl'}"


def check_stopped(process, name, times):
    """Sends a signal that often; the process says one line and ends soon, as that signal has it."""
    for _ in range(times):
        process.send_signal(getattr(signal, name))
        time.sleep(0.2)
    asked = time.monotonic()
    code, out, errors = finish(process)
    assert time.monotonic() - asked < 30
    assert code == 128 + getattr(signal, name) and errors == [], (code, out, errors)
    told = [line for line in out.splitlines() if line.strip() and not line.startswith("CPU devices")]
    assert len(told) == 1, out
    assert f"asked to stop ({name})" in told[0] or (times == 2 and "second Ctrl-C" in told[0])


STOPS = [("SIGTERM", 1), ("SIGHUP", 1), ("SIGINT", 1), ("SIGINT", 2), ("SIGUSR1", 1)]


@pytest.mark.parametrize(("name", "times"), STOPS)
def test_pruning_that_is_asked_to_stop_keeps_the_circuits_that_it_has_made(trained, name, times):
    workdir = trained / "run"
    kept = workdir / "circuits" / "first"
    seed = 100 * STOPS.index((name, times))  # another circuit each time

    def prune(tasks):
        few = [f"--config.prune.{split}_pairs=8" for split in SPLITS]
        seeds = (f"--config.prune.seed={seed}", "--config.prune.edge_steps=0")
        steps = "--config.prune.steps=300"
        flags = (FLAGS[0], f"--workdir={workdir}", tasks, *few, steps, *seeds)
        return start_python(trained / "programs", "-c", PRUNING, *flags)

    def saved():
        try:
            return load_circuit(kept).provenance["prune"]["seed"] == seed
        except ValueError:
            return False

    process = prune(tasks_of(trained))
    wait_until(process, saved)
    check_stopped(process, name, times)
    written = (kept / "circuit.json").stat().st_mtime_ns
    code, _, errors = finish(prune(f"--tasks={trained / 'first.jsonl'}"))
    assert code == 0, errors
    assert (kept / "circuit.json").stat().st_mtime_ns == written  # made by the first call


@pytest.mark.parametrize(("name", "times"), STOPS)
def test_an_audit_that_is_asked_to_stop_keeps_what_it_has_examined(trained, name, times):
    workdir, seed = trained / "run", 100 * STOPS.index((name, times)) + 7
    run = load_workdir(workdir)
    for task, steps in (("first", 2), ("second", FOREVER)):
        prune = PruneConfig(
            tasks=(str(trained / f"{task}.jsonl"),), steps=steps, train_pairs=8, select_pairs=8, test_pairs=8,
            batch_pairs=8, mean_batches=1, ablation="zero", seed=seed, edge_steps=0, importance_nodes=0,
        )  # fmt: skip
        every_third_node(run, task, prune).save(workdir / "circuits" / task)
    few = [f"--config.audit.{key}" for key in ("pairs=8", "draws=2", "natural=8", "resamples=20", "seeds=1")]
    flags = (FLAGS[0], f"--workdir={workdir}", tasks_of(trained), *few)

    def examined():
        try:
            found = json.loads((workdir / "audit.json").read_text())
        except FileNotFoundError:
            return []
        return list(found["tasks"])

    (workdir / "audit.json").unlink(missing_ok=True)
    process = start(trained / "programs", "audit", *flags)
    wait_until(process, lambda: examined() == ["first"])
    time.sleep(1)
    check_stopped(process, name, times)
    assert examined() == ["first"]
    written = json.loads((workdir / "audit.json").read_text())["tasks"]["first"]
    again = (*flags[:2], f"--tasks={trained / 'first.jsonl'}", *few)
    code, _, errors = finish(start(trained / "programs", "audit", *again))
    assert code == 0, errors
    assert json.loads((workdir / "audit.json").read_text())["tasks"]["first"] == written
