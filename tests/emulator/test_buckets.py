"""Whole runs in buckets, on servers that speak the stores' own protocols.

`.ci/check emulator` installs what they need, and runs them.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import time

import jax
import pytest

from circuits_jax.config import PruneConfig
from circuits_jax.runs.opening import load
from circuits_jax.storage import buckets
from circuits_jax.storage.errors import BucketError
from circuits_jax.storage.paths import as_path
from circuits_jax.tasks import load_task
from circuits_jax.training.checkpoints import Checkpoints
from circuits_jax.training.metrics import read_metrics
from tests.emulator.servers import BUCKET, forbidding, free_port, missing, served
from tests.experiments.command import ROOT
from tests.experiments.test_bridges import FLAGS, write_task
from tests.training.tiny import assert_equal, write_programs

pytestmark = [pytest.mark.slow, pytest.mark.emulator]
STEPS = 400
RHYTHM = (
    *(f"--config.train.steps={STEPS}", "--config.train.log_every=20", "--config.train.checkpoint_every=20"),
    *("--config.train.eval_every=100", "--config.train.keep_best=1"),
)
PRUNE = PruneConfig(steps=4, batch_pairs=8, train_pairs=8, select_pairs=8, test_pairs=8, mean_batches=1)
AUDIT = ("--controls=false", "--config.audit.pairs=8", "--config.audit.draws=2", "--config.audit.natural=8")


@pytest.fixture(params=["s3", "gs"])
def store(request, tmp_path, monkeypatch):
    """A server with one bucket, which this process and all that it starts use; gives the folder of a run."""
    if absent := missing(request.param):
        pytest.skip(f"{', '.join(absent)} not installed: pip install -e '.[emulators]'")
    log = tmp_path / f"{request.param}.log"
    with served(request.param, log) as environment:
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        forget(monkeypatch)
        yield f"{request.param}://{BUCKET}/runs/one [1] é"
    print(f"{request.param}: {len(log.read_text(errors='replace').splitlines())} lines in the server's log")


def forget(monkeypatch):
    """Makes the libraries read the environment again."""
    for kind in ("s3fs", "gcsfs"):
        module = sys.modules.get(kind)
        for each in (getattr(module, name, None) for name in ("S3FileSystem", "GCSFileSystem")):
            if each is not None:
                each.clear_instance_cache()
    monkeypatch.setattr(buckets, "_seen", set())


class Machine:
    """Starts commands that share no folder with those of another machine."""

    def __init__(self, folder, programs):
        self._environment = os.environ | {
            "XDG_CACHE_HOME": str(folder / "cache"), "PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu",
            "JAX_COMPILATION_CACHE_DIR": str(programs), "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        }  # fmt: skip
        self._folder = folder
        folder.mkdir()

    def start(self, *arguments):
        return subprocess.Popen(
            [sys.executable, "-m", "circuits_jax", *arguments],
            cwd=self._folder,
            env=self._environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, *arguments):
        """What a command prints, and how long it takes."""
        began = time.perf_counter()
        process = self.start(*arguments)
        out, errors = process.communicate(timeout=600)
        assert process.returncode == 0, (arguments, errors[-3000:])
        return out, time.perf_counter() - began


def kill_after(process, workdir, step):
    """SIGKILLs a run as soon as it has a checkpoint of `step` or later."""
    until = time.monotonic() + 300
    while max(Checkpoints(workdir).steps(), default=0) < step:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < until
        time.sleep(0.2)
    process.kill()
    process.communicate()
    assert process.returncode == -signal.SIGKILL


def test_a_whole_run(store, tmp_path):
    """Trained, killed, resumed on another machine without sources, pruned, audited, drawn, steered."""
    write_programs(tmp_path / "tree")
    write_task(tmp_path / "brackets.jsonl")
    first, second = (Machine(tmp_path / name, tmp_path / "programs") for name in ("first", "second"))
    roots, workdir, task = (
        f"--config.data.roots={tmp_path / 'tree'}",
        as_path(store),
        f"--tasks={tmp_path / 'brackets.jsonl'}",
    )
    seconds = {}
    for place in (as_path(tmp_path / "local"), workdir):
        process = first.start("pretrain", *FLAGS, *RHYTHM, roots, f"--workdir={place}")
        kill_after(process, place, STEPS // 2)
    shutil.copytree(tmp_path / "local", tmp_path / "spare")
    shutil.rmtree(tmp_path / "tree")  # the run has its corpus
    for place in (as_path(tmp_path / "local"), workdir):
        _, seconds[str(place)] = second.run("pretrain", *FLAGS, *RHYTHM, roots, f"--workdir={place}")
        assert [row["step"] for row in read_metrics(place)] == list(range(20, STEPS + 1, 20))
    print(f"resumed: {seconds}")
    here, there = load(tmp_path / "local"), load(store)
    assert_equal(here.model.params, there.model.params)
    assert here.corpus.hash == there.corpus.hash
    steps = Checkpoints(workdir).steps()
    assert steps[-2:] == [STEPS - 20, STEPS] and len(steps) <= 3

    circuit = there.prune(load_task(tmp_path / "brackets.jsonl"), allow_unlearned=True, settings=PRUNE)
    assert load(store).circuits[0].nodes == circuit.nodes
    out, _ = second.run("audit", f"--workdir={store}", task, *AUDIT)
    assert "brackets" in out and (workdir / "audit.html").exists()
    second.run("view", f"--workdir={store}", task)
    for name in ("report.html", "circuits/brackets/page.html"):
        assert "brackets" in (workdir / name).read_text()
    second.run("export", f"--workdir={store}", "--format=graphml")
    second.run("inspect", f"--model={store}")
    second.run("generate", f"--model={store}", "--tokens=5,6", "--max_tokens=3")
    second.run("tasks", f"--workdir={store}", task)
    assert json.loads((workdir / "inspect.json").read_text()) and json.loads(
        (workdir / "tasks.json").read_text()
    )

    bridges = str(workdir.parent / "bridges")
    dense = f"--config.bridge.dense={store}"
    first.run("bridges", *FLAGS, dense, f"--workdir={bridges}", f"--store={store}/data")
    steer = f"--config.steer.tasks=({str(tmp_path / 'brackets.jsonl')!r},)"
    second.run(
        "steer", *FLAGS, steer, f"--workdir={bridges}", "--nodes=0.mlp.post_act.3", f"--store={store}/data"
    )
    assert "Sites and routes" in (as_path(bridges) / "bridges.html").read_text()
    assert json.loads((as_path(bridges) / "steer.json").read_text())["tasks"]
    for folder in ("first", "second"):  # nothing went to disk that belongs in the bucket
        assert {path.name for path in (tmp_path / folder).iterdir()} <= {"cache"}


def test_two_processes_write_one_run(store, tmp_path):
    write_programs(tmp_path / "tree")
    machines = [Machine(tmp_path / name, tmp_path / "programs") for name in ("first", "second")]
    flags = (
        *FLAGS,
        *("--config.train.steps=40", "--config.train.checkpoint_every=10", "--config.mesh.fsdp=2"),
        f"--config.data.roots={tmp_path / 'tree'}",
        f"--workdir={store}",
    )
    for _ in range(2):  # the second time there is nothing left to do but to read
        together = (
            f"--coordinator=127.0.0.1:{free_port()}",
            "--processes=2",
        )
        pair = [
            machine.start("pretrain", *flags, *together, f"--process={index}")
            for index, machine in enumerate(machines)
        ]
        for process in pair:
            out, errors = process.communicate(timeout=600)
            assert process.returncode == 0, (out, errors[-3000:])
    assert Checkpoints(as_path(store)).latest == 40
    assert all(bool(jax.numpy.isfinite(leaf).all()) for leaf in jax.tree.leaves(load(store).model.params))
    for name in ("first", "second"):
        assert len(list((tmp_path / name / "cache").rglob("train.npy"))) == 1


def test_refusals_name_bucket_account_and_role(tmp_path, monkeypatch):
    cases = []
    if not missing("s3"):
        words = ("s3://bucket refuses the access key AKIAOFTHETEST", "403", "s3:ListBucket and s3:GetObject")
        cases.append((served("s3", tmp_path / "s3.log", guarded=True), "s3", words))
    if not missing("gs"):
        words = (
            "gs://bucket refuses this account",
            "roles/storage.objectViewer",
            "application-default login",
        )
        cases.append((forbidding(), "gs", words))
    if not cases:
        pytest.skip("no store's library is installed")
    for server, scheme, words in cases:
        with server as environment:
            for name, value in environment.items():
                monkeypatch.setenv(name, value)
            forget(monkeypatch)
            with pytest.raises(BucketError) as caught:
                (as_path(f"{scheme}://bucket/run") / "config.json").read_bytes()
            message = str(caught.value)
            assert all(word in message for word in words) and "\n" not in message, message
            machine = Machine(tmp_path / scheme, tmp_path / "programs")
            process = machine.start("pretrain", f"--workdir={scheme}://bucket/run")
            out, errors = process.communicate(timeout=120)
            told = [line for line in errors.splitlines() if line.startswith("error:")]
            assert process.returncode == 1 and len(told) == 1 and f"{scheme}://bucket refuses" in told[0], (
                errors
            )


def test_a_bucket_that_is_not_there(store, tmp_path):
    machine = Machine(tmp_path / "machine", tmp_path / "programs")
    name = store.replace(f"//{BUCKET}/", "//other-bucket/")
    for command in ("pretrain", "inspect", "view", "audit"):
        process = machine.start(command, f"--workdir={name}")
        _, errors = process.communicate(timeout=120)
        told = [line for line in errors.splitlines() if line.startswith("error:")]
        assert process.returncode == 1 and len(told) == 1, (command, errors)
        assert "there is no bucket" in told[0] and "other-bucket (404)" in told[0], told
