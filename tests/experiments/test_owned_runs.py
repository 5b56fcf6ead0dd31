"""A run whose sources are gone, renamed, moved, copied, used from elsewhere, by the commands themselves."""

import dataclasses
import json
import os
import shutil
from pathlib import Path

import pytest

from circuits_jax.config import PruneConfig
from circuits_jax.runs.opening import load_workdir
from tests.experiments.circuits import every_third_node
from tests.experiments.command import TINY, finish, start
from tests.wheel.test_wheel import corpus

pytestmark = pytest.mark.slow

TASK = "while_return_true"
SIZES = (
    *TINY,
    *("--config.model.n_ctx=64", "--config.model.vocab_size=1800", "--config.train.steps=6"),
    *("--config.train.eval_every=6", "--config.train.checkpoint_every=2", "--config.data.seed=1"),
)
AUDIT = ("--config.audit.pairs=16", "--config.audit.draws=2", "--config.audit.natural=8", "--controls=false")
PRUNE = PruneConfig(steps=2, batch_pairs=8, train_pairs=8, select_pairs=8, test_pairs=8, mean_batches=1)


def ran(place: Path, module: str, *flags: object) -> str:
    code, out, errors = finish(start(place / "programs", module, *map(str, flags)))
    assert code == 0, errors
    return out


def save_circuit(workdir: Path) -> None:
    circuit = every_third_node(load_workdir(workdir), TASK, dataclasses.replace(PRUNE, tasks=(TASK,)))
    circuit.save(workdir / "circuits" / TASK)


@pytest.mark.parametrize("shared", [False, True])
def test_every_command_works_without_the_sources(tmp_path: Path, shared: bool) -> None:
    home = tmp_path / "home"
    home.mkdir()
    tree = corpus(tmp_path / "tree")
    roots = f"--config.data.roots=('{tree}',)"
    where = (f"--store={home / 'store'}",) if shared else ()
    ran(tmp_path, "pretrain", *SIZES, roots, *where, f"--workdir={home / 'run'}")
    name = json.loads((home / "run" / "config.json").read_text())["data"]["hash"]
    assert (home / "store" / name).exists() == shared
    last = (home / "run" / "checkpoints" / "6").rename(tmp_path / "last")
    shutil.rmtree(tree)
    os.rename(home, tmp_path / "moved")
    workdir = tmp_path / "moved" / "run"
    ran(tmp_path, "pretrain", *SIZES, roots, f"--workdir={workdir}")  # goes on from step 4
    assert (workdir / "checkpoints" / "6").exists() and last.exists()
    save_circuit(workdir)
    few = [f"--config.prune.{key}=8" for key in ("train_pairs", "select_pairs", "test_pairs", "batch_pairs")]
    ran(
        tmp_path,
        "prune",
        *TINY[:1],
        f"--workdir={workdir}",
        "--tasks=with_as",
        "--config.prune.steps=2",
        *few,
    )
    ran(tmp_path, "inspect", *TINY[:1], f"--workdir={workdir}")
    ran(tmp_path, "view", *TINY[:1], f"--workdir={workdir}")
    assert "page" in ran(tmp_path, "audit", *TINY[:1], f"--workdir={workdir}", *AUDIT)
    audits = json.loads((workdir / "audit.json").read_text())
    assert audits["tasks"][TASK]["corpus"] == name
    if shared:
        alone = Path(shutil.copytree(workdir, tmp_path / "alone"))
        os.rename(tmp_path / "moved", tmp_path / "again")
        # inspect leaves a part out and says so
        anew = (*AUDIT, "--config.audit.seed=1")
        for module, settings, expected in (("inspect", (), 0), ("audit", anew, 1)):
            code, _, errors = finish(
                start(tmp_path / "programs", module, TINY[0], f"--workdir={alone}", *settings)
            )
            told = [line for line in errors if name in line and "--store=" in line]
            assert (code, len(told)) == (expected, 1), errors
        ran(tmp_path, "inspect", TINY[0], f"--workdir={alone}", f"--store={tmp_path / 'again' / 'store'}")
