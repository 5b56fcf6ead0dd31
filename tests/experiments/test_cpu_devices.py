"""Runs on devices that divide nothing: trained all the same, or refused before the claim."""

import json
import subprocess
import sys

import pytest

from tests.experiments.command import ROOT, TINY, finish, start
from tests.training.tiny import write_programs

SHORT = (*TINY[1:], "--config.train.steps=4", "--config.train.eval_every=2", "--config.train.batch_size=8")
IN_PYTHON = """
import ast, sys
import jax
jax.config.update("jax_num_cpu_devices", 3)
import circuits_jax as cj
settings = dict(pair.split("=") for pair in sys.argv[3:])
settings = {name: ast.literal_eval(value) for name, value in settings.items()}
config = cj.load_config("quickstart", settings | {"data.roots": (sys.argv[2],)})
run = cj.train(config, sys.argv[1])
print(sum(x.size for x in jax.tree.leaves(run.model.params)))
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("devices")
    write_programs(folder / "tree")
    return folder


@pytest.fixture
def command(place, tmp_path):
    """Starts a tiny run in a workdir of its own."""

    def run(*flags, module="pretrain", workdir="run"):
        paths = (f"--config.data.roots={place / 'tree'}", f"--workdir={tmp_path / workdir}")
        return finish(start(place / "programs", module, *SHORT, *paths, *flags))

    return run


def test_a_number_that_does_not_divide_the_batch_is_refused_and_holds_nothing(command, tmp_path):
    code, _, errors = command("--cpu_devices=3")
    assert code == 1 and len(errors) == 1 and "give one of 1, 2, 4, 8" in errors[0]
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_a_run_keeps_the_devices_it_had(command, tmp_path):
    for flag, devices in ((["--cpu_devices=6"], 1), (["--cpu_devices=2"], 0), ([], 0)):
        code, out, errors = command(*flag)
        assert code == devices, errors
        assert (tmp_path / "run/config.json").exists() == (devices == 0)
    assert json.loads((tmp_path / "run/devices.json").read_text())["devices"] == 2
    assert "CPU devices  2, as the run" in out
    (tmp_path / "run/devices.json").unlink()  # a run of before there was a note
    assert "CPU devices  2, as the run" in command()[1]


@pytest.mark.slow
def test_auto_measures_once(command, tmp_path):
    code, out, errors = command("--cpu_devices=auto")
    assert code == 0, errors
    assert out.startswith("CPU devices  ") and out.count("CPU devices") == 1
    before = (tmp_path / "run/devices.json").read_bytes()
    out = command("--cpu_devices=auto", "--config.train.log_every=3")[1]
    assert "as the run" in out or "the only number" in out
    assert (tmp_path / "run/devices.json").read_bytes() == before


@pytest.mark.slow
def test_three_devices(command, place, tmp_path):
    code, out, errors = command("--cpu_devices=3", "--config.train.batch_size=6")
    assert code == 0, errors
    assert "data 3 x fsdp 1 x model 1" in out
    settings = [pair.removeprefix("--config.") for pair in SHORT if pair.startswith("--config.")]
    done = subprocess.run(
        [sys.executable, "-c", IN_PYTHON, str(tmp_path / "library"), str(place / "tree"), *settings],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert "data 2 x fsdp 1 x model 1: 2 x cpu, 1 process; 1 more do not divide" in done.stdout
