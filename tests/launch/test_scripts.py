"""The launchers: a dry run prints exactly what a real one runs, and what it runs is what was asked for."""

import os
import re
import shlex
import shutil
import subprocess
import sys

import pytest
import yaml
from absl import flags as absl_flags
from absl.testing import flagsaver

from circuits_jax.commands import compile as compile_command
from circuits_jax.commands import pretrain
from circuits_jax.configs import expansion_sweep
from circuits_jax.training.compiling.topologies import find_slice
from tests.configs.test_configs import resolve
from tests.experiments.command import ROOT

LAUNCH = ROOT / "launch"
SCRIPTS = sorted(path.name for path in LAUNCH.glob("*.sh"))
OUTSIDE = ("gcloud", "kubectl", "xpk", "sbatch", "squeue", "scancel", "srun", "scontrol", "parallel", "tail")
OUTSIDE += ("systemd-run", "systemctl", "journalctl", "python3", "mkdir", "sleep")
ODD = """--config.prune.tasks=("with_as", "it's \\ {}")"""
CONFIG = "expansion_sweep"
FLAGS = ["--", f"--config={CONFIG}:2", "--workdir=gs://b/r", ODD]
EVERY = f"0-{len(expansion_sweep.CONFIGS) - 1}"
SWEEP = [f"--array={EVERY}", "--", f"--config={CONFIG}:{{}}", "--workdir=gs://b/{}", ODD]
TPU, GKE = ["--name=n", "--zone=z", "--project=p"], ["--cluster=c", "--name=n", "--project=p"]
CASES = {
    "tpu create": ["tpu_pod.sh", "create", *TPU, "--accelerator_type=v5litepod-16", "--spot=yes"],
    "tpu status": ["tpu_pod.sh", "status", *TPU],
    "tpu wait": ["tpu_pod.sh", "wait", *TPU],
    "tpu install": ["tpu_pod.sh", "install", *TPU, "--owner=o", "--ref=v1"],
    "tpu run": ["tpu_pod.sh", "run", *TPU, *FLAGS],
    "tpu logs": ["tpu_pod.sh", "logs", *TPU],
    "tpu stop": ["tpu_pod.sh", "stop", *TPU],
    "tpu delete": ["tpu_pod.sh", "delete", *TPU],
    "tpu restart": ["tpu_pod.sh", "restart", *TPU, "--accelerator_type=v4-8", "--owner=o", *FLAGS],
    "tpu run, checked": [
        "tpu_pod.sh",
        "run",
        *TPU,
        "--accelerator_type=v5litepod-16",
        "--check_memory",
        *FLAGS,
    ],
    "gke create": ["gke_xpk.sh", "create", *GKE, "--tpu_type=v5litepod-8"],
    "gke run": ["gke_xpk.sh", "run", *GKE, "--tpu_type=v5litepod-16", "--owner=o", *FLAGS],
    "gke run, checked": [
        "gke_xpk.sh",
        "run",
        *GKE,
        "--tpu_type=v6e-16",
        "--num_slices=2",
        "--owner=o",
        "--check_memory",
        *FLAGS,
    ],
    "gke status": ["gke_xpk.sh", "status", *GKE],
    "gke logs": ["gke_xpk.sh", "logs", *GKE],
    "gke stop": ["gke_xpk.sh", "stop", *GKE],
    "gke logs_sweep": ["gke_xpk.sh", "logs_sweep", *GKE],
    "gke stop_sweep": ["gke_xpk.sh", "stop_sweep", *GKE],
    "gke delete": ["gke_xpk.sh", "delete", *GKE],
    "slurm run": ["slurm.sh", "run", "--name=n", "--nodes=2", "--gpus=8", *FLAGS],
    "slurm sweep": ["slurm.sh", "sweep", "--name=n", *SWEEP],
    "slurm status": ["slurm.sh", "status", "--name=n"],
    "slurm logs": ["slurm.sh", "logs", "--name=n"],
    "slurm stop": ["slurm.sh", "stop", "--name=n"],
    "box start": ["gpu_box.sh", "start", "--name=n", *FLAGS],
    "box sweep": ["gpu_box.sh", "sweep", "--name=n", "--gpus=8", *SWEEP],
    "box logs": ["gpu_box.sh", "logs", "--name=n"],
    "box stop": ["gpu_box.sh", "stop", "--name=n"],
}


@pytest.fixture
def launch(tmp_path):
    """Runs a launcher where every command that reaches outside only writes down that it was called."""
    (tmp_path / "bin").mkdir()
    for name in OUTSIDE:
        (tmp_path / "bin" / name).write_text(
            f"""#!/usr/bin/env bash
printf '%s\\0' {name} "$@" >>'{tmp_path}/calls'
echo >>'{tmp_path}/calls'
[[ {name} != kubectl ]] || cat >>'{tmp_path}/manifest'
[[ " $* " != *" describe "* ]] || echo ACTIVE
[[ {name} != squeue ]] || echo "${{STATE:-}}"
[[ {name} != srun ]] || exit "${{EXIT:-0}}"
"""
        )
        (tmp_path / "bin" / name).chmod(0o755)

    def run(script, *arguments, **environment):
        (tmp_path / "calls").write_text("")
        done = subprocess.run(
            [LAUNCH / script, *arguments],
            env=os.environ | {"PATH": f"{tmp_path}/bin:{os.environ['PATH']}"} | environment,
            cwd=tmp_path,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
        )
        calls = [line.split("\0")[:-1] for line in (tmp_path / "calls").read_text().splitlines()]
        return done, calls

    return run


def dry(launch, *arguments):
    """The commands that a dry run prints, as words; it must run none of them."""
    script, command, *rest = arguments
    done, calls = launch(script, command, "--dry_run", *rest)
    assert done.returncode == 0, done.stderr
    assert calls == []
    return [shlex.split(line) for line in done.stdout.splitlines() if not line.startswith("# ")]


@pytest.mark.parametrize("case", CASES)
def test_a_dry_run_prints_what_a_real_one_runs(launch, case):
    printed = dry(launch, *CASES[case])
    done, calls = launch(*CASES[case])
    assert done.returncode == 0, done.stderr
    assert calls == printed and calls


def test_installing_on_one_machine(launch):
    for script in ("gpu_box.sh", "slurm.sh"):
        assert dry(launch, script, "install") == [
            ["python3", "-m", "venv", ".venv"],
            [".venv/bin/pip", "install", "-e", ".[gpu]"],
        ]


def innermost(words):
    """The words of the experiment's own command, out of what carries them."""
    for word in words:
        if "experiments.pretrain" in word and " " in word:
            return innermost(shlex.split(word.removeprefix("--command=")))
    start = words.index("experiments.pretrain")
    assert words[start - 1] == "-m" or words[start - 1].endswith("slurm_job.sh")
    return words[start + 1 :]


@pytest.mark.parametrize("case", ["tpu run", "gke run", "slurm run", "box start"])
def test_flags_of_a_run_arrive_as_they_were_given(launch, case):
    flags = innermost(dry(launch, *CASES[case])[-1])
    if case != "box start":  # one process there, several elsewhere
        with flagsaver.flagsaver():
            pretrain.define_flags()
            assert flags.pop(0) == "--distributed" and "distributed" in absl_flags.FLAGS
    assert flags == FLAGS[1:]
    assert resolve(flags[0].removeprefix("--config=")) == expansion_sweep.CONFIGS[2]


def test_flags_arrive_in_the_foreground(launch):
    ((python, *words),) = dry(launch, "gpu_box.sh", "run", *FLAGS)
    assert python == ".venv/bin/python" and innermost(words) == FLAGS[1:]


@pytest.mark.parametrize(
    "case, slice_, chips", [("tpu run, checked", "v5litepod-16", 16), ("gke run, checked", "v6e-16", 32)]
)
def test_memory_is_checked_before_anything_else(launch, case, slice_, chips):
    check, *rest = dry(launch, *CASES[case])
    assert check[:3] == ["python3", "-m", "experiments.compile"] and rest
    with flagsaver.flagsaver():
        compile_command.define_flags()
        given = {word.partition("=")[0].lstrip("-"): word.partition("=")[2] for word in check[3:]}
        assert {name for name in given if "." not in name} <= set(absl_flags.FLAGS)
    assert given["topology"] == slice_ and given["what"] == "train" and given["config"] == f"{CONFIG}:2"
    assert find_slice(slice_, int(given["num_slices"])).chips == chips
    assert ODD in check and not any("workdir" in word for word in check)


def checked(launch, *flags, script="tpu_pod.sh", command="run", more=()):
    """The run of a launcher with --check_memory, dry."""
    topology = (
        ["--accelerator_type=v5litepod-16", *TPU] if script == "tpu_pod.sh" else [*GKE, "--tpu_type=v6e-8"]
    )
    return launch(script, command, *topology, *more, "--check_memory", "--dry_run", *flags)[0]


def test_settings_whose_values_are_words_of_their_own_are_checked_too(launch):
    done = checked(launch, "--", "--config", "paper_8x1024", "--config.mesh.remat", "blocks", "--workdir=/w",
                   "--config.mesh.scan_layers", "--config.train.steps=5")  # fmt: skip
    check = next(line for line in done.stdout.splitlines() if "experiments.compile" in line)
    assert check.endswith(
        "--what=train --config paper_8x1024 --config.mesh.remat blocks --config.mesh.scan_layers "
        "--config.train.steps=5"
    )


def test_what_cannot_be_checked_is_refused(launch):
    for done, words in (
        (checked(launch, command="create"), "give its flags: -- --config=FILE"),
        (checked(launch, "--", "--workdir=/w", more=["--experiment=prune"]), "give its configuration"),
        (checked(launch, *SWEEP, script="gke_xpk.sh", command="sweep", more=["--owner=o"]), "one run"),
    ):
        assert done.returncode == 2 and words in done.stderr, done.stderr


def test_a_dry_run_tells_how_memory_would_be_checked(launch):
    given = [*TPU, "--accelerator_type=v5litepod-16", "--dry_run"]
    done, _ = launch("tpu_pod.sh", "run", *given, "--", f"--config={CONFIG}", "--workdir=/w")
    first, second, *_ = done.stdout.splitlines()
    assert first == "# with --check_memory first:" and second.startswith("# python3 -m experiments.compile")
    assert f"--config={CONFIG}" in second


def test_a_run_that_does_not_fit_is_not_started(launch, tmp_path):
    python = tmp_path / "bin" / "python3"
    python.write_text(python.read_text() + "exit 3\n")
    done, calls = launch(*CASES["tpu run, checked"])
    assert done.returncode == 3 and [call[0] for call in calls] == ["python3"]
    done, calls = launch("slurm.sh", "run", "--name=n", "--check_memory", *FLAGS)
    assert done.returncode == 2 and "compiles for TPUs" in done.stderr and not calls


def test_restart_is_delete_create_wait_install_run(launch):
    words = [" ".join(call) for call in dry(launch, *CASES["tpu restart"])]
    kinds = [
        "resources delete",
        "resources create",
        "resources describe",
        "venv/bin/pip install",
        "systemd-run",
    ]
    assert [kind in call for kind, call in zip(kinds, words, strict=True)] == [True] * 5
    assert all("--zone=z" in call and "--project=p" in call for call in words)


def test_a_failed_slice_is_not_waited_for(launch, tmp_path):
    fake = tmp_path / "bin" / "gcloud"
    fake.write_text(fake.read_text().replace("ACTIVE", "FAILED"))
    done, _ = launch(*CASES["tpu wait"])
    assert done.returncode == 2 and "is FAILED" in done.stderr


def test_the_sweep_on_gke_is_an_indexed_job(launch, tmp_path):
    sweep = ["gke_xpk.sh", "sweep", *GKE, "--owner=o", "--at_once=3", *SWEEP]
    done, calls = launch(*sweep)
    assert done.returncode == 0, done.stderr
    assert calls == [["kubectl", "apply", "-f", "-"]]
    manifest = (tmp_path / "manifest").read_text()
    spec = yaml.safe_load(manifest)["spec"]
    assert (spec["completionMode"], spec["completions"]) == ("Indexed", len(expansion_sweep.CONFIGS))
    assert (spec["parallelism"], spec["template"]["spec"]["restartPolicy"]) == (3, "Never")
    (container,) = spec["template"]["spec"]["containers"]
    assert container["command"][:2] == ["bash", "-c"]
    # Kubernetes itself puts the index in, before bash sees the line.
    line = container["command"][2].replace("$(JOB_COMPLETION_INDEX)", "7")
    assert innermost([line]) == [flag.replace("{}", "7") for flag in SWEEP[2:]]
    dry_run, calls = launch(*sweep[:2], "--dry_run", *sweep[2:])
    assert calls == [] and dry_run.stdout == f'kubectl apply -f - <<"YAML"\n{manifest}YAML\n'


def test_the_sweep_on_slurm_is_a_job_array(launch):
    _, sbatch = dry(launch, *CASES["slurm sweep"])
    assert f"--array={EVERY}%4" in sbatch and "--requeue" in sbatch and "--ntasks-per-node=1" in sbatch
    job = sbatch[sbatch.index("launch/slurm_job.sh") + 1 :]
    done, (call,) = launch("slurm_job.sh", *job, SLURM_ARRAY_TASK_ID="7")
    assert done.returncode == 0, done.stderr
    assert call[:2] == ["srun", "--kill-on-bad-exit=1"]
    assert innermost(call) == [flag.replace("{}", "7") for flag in SWEEP[2:]]


@pytest.mark.parametrize(
    ("status", "state", "requeued"),
    [("143", "RUNNING", True), ("143", "CANCELLED", False), ("1", "RUNNING", False), ("0", "RUNNING", False)],
)
def test_a_slurm_job_that_ran_out_of_time_is_queued_again(launch, status, state, requeued):
    done, calls = launch("slurm_job.sh", "m", EXIT=status, STATE=state, SLURM_JOB_ID="42")
    assert (calls[-1] == ["scontrol", "requeue", "42"]) == requeued
    assert done.returncode == (0 if requeued else int(status))


def test_the_sweep_on_one_box_has_every_index_and_a_gpu_each(launch):
    _, call = dry(launch, *CASES["box sweep"])
    indices = call[call.index(":::") + 1 :]
    assert [int(index) for index in indices] == list(range(len(expansion_sweep.CONFIGS)))
    line = call[call.index(":::") - 1]
    assert line.startswith("CUDA_VISIBLE_DEVICES={= $_ = slot() - 1 =} ")
    assert innermost([line]) == SWEEP[2:]


@pytest.mark.parametrize("script", ["slurm.sh", "gpu_box.sh", "gke_xpk.sh"])
def test_points_of_one_list_share_a_workdir(launch, script):
    of_script = {"slurm.sh": ["--name=n"], "gpu_box.sh": ["--name=n"], "gke_xpk.sh": [*GKE, "--owner=o"]}
    flags = ["--config=frontier_gpu", "--points={}", "--workdir=gs://b/frontier"]
    given = [*of_script[script], "--experiment=frontier", "--array=0-2", "--", *flags]
    done, _ = launch(script, "sweep", "--dry_run", *given)
    assert done.returncode == 0, done.stderr
    assert "experiments.frontier" in done.stdout and "--workdir=gs://b/frontier" in done.stdout
    assert "--points={}" in done.stdout or "--points=$(JOB_COMPLETION_INDEX)" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["tpu_pod.sh", "destroy"], ["destroy", "create", "restart"]),
        (["tpu_pod.sh", "create", "--zone=z"], ["create", "--name="]),
        (["tpu_pod.sh", "create", *TPU], ["--accelerator_type="]),
        (["tpu_pod.sh", "restart", *TPU, "--accelerator_type=v4-8"], ["--owner="]),
        (["tpu_pod.sh", "create", "--nme=n"], ["--nme", "--name", "--zone"]),
        (["tpu_pod.sh", "create", "--name", "n"], ["--name", "--name=value"]),
        (["tpu_pod.sh", "create", "n"], ["'n'", "after --"]),
        (["gke_xpk.sh", "run", "--cluster=c"], ["--name="]),
        (["gke_xpk.sh", "sweep", *GKE, "--owner=o", "--array=1-3", *SWEEP[1:]], ["1-3", "from 0"]),
        (["slurm.sh", "sweep", "--name=n", "--array=5", *SWEEP[1:]], ["'5'", "FIRST-LAST"]),
        (["slurm.sh", "sweep", "--name=n", "--array=5-2", *SWEEP[1:]], ["5-2", "above"]),
        (["gpu_box.sh", "sweep", "--name=n", "--array=08-09", *SWEEP[1:]], ["'08-09'", "FIRST-LAST"]),
        (["slurm.sh", "run", "--name=n", "--nodes=two", *FLAGS], ["--nodes", "'two'", "whole number"]),
        (["gke_xpk.sh", "sweep", *GKE, "--owner=o", "--at_once=0", *SWEEP], ["--at_once", "'0'"]),
        (["slurm.sh", "sweep", "--name=n", "--array=0-2", *FLAGS], ["--config", "{}"]),
        (["gpu_box.sh", "sweep", "--name=n", *SWEEP[:3], "--workdir=runs/x"], ["--workdir", "{}"]),
        (["gpu_box.sh", "start", *FLAGS], ["--name="]),
        (["tpu_pod.sh", "run", *TPU, "--", "--workdir=runs/r"], ["--workdir", "gs://"]),
        (["tpu_pod.sh", "restart", *TPU, "--accelerator_type=v4-8", "--owner=o"], ["--workdir", "gs://"]),
        (["gke_xpk.sh", "run", *GKE, "--tpu_type=t", "--owner=o"], ["--workdir", "gs://"]),
        (["gke_xpk.sh", "sweep", *GKE, "--owner=o", *SWEEP[:3], "--workdir={}"], ["--workdir", "gs://"]),
    ],
    ids=lambda value: " ".join(value[:2]) if value[0].endswith(".sh") else None,
)
def test_bad_input_is_told_in_one_line_and_runs_nothing(launch, arguments, words):
    done, calls = launch(*arguments)
    assert done.returncode == 2 and calls == []
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: ")
    assert [word for word in words if word not in line] == []


@pytest.mark.parametrize("script", ["tpu_pod.sh", "gke_xpk.sh", "slurm.sh", "gpu_box.sh"])
def test_help_names_every_command(launch, script):
    done, calls = launch(script, "--help")
    assert done.returncode == 0 and calls == []
    choices = launch(script, "nonsense")[0].stderr.partition("choose ")[2]
    commands = re.split(r", | or ", choices.strip())
    assert len(commands) > 4
    assert [word for word in commands if f"{script} {word}" not in done.stdout] == []


def readme_commands():
    """Every command of the README."""
    blocks = re.findall(r"^```bash\n(.*?)^```", (LAUNCH / "README.md").read_text("utf-8"), re.S | re.M)
    return [line for block in blocks for line in block.splitlines()]


@pytest.mark.parametrize("line", readme_commands())
def test_commands_of_the_readme_hold(launch, line):
    script, command, *rest = shlex.split(line)
    done, calls = launch(script.removeprefix("launch/"), command, "--dry_run", *rest)
    assert done.returncode == 0, done.stderr
    assert calls == [] and done.stdout
    for flag in rest:
        if flag.startswith("--config="):
            resolve(flag.removeprefix("--config=").replace("{}", "0"))


@pytest.mark.parametrize("script", SCRIPTS)
def test_scripts_are_clean(script):
    beside_python = os.path.dirname(sys.executable)
    shellcheck = shutil.which("shellcheck", path=f"{beside_python}{os.pathsep}{os.environ['PATH']}")
    if shellcheck is None:
        pytest.skip("shellcheck is not installed (it comes with the dev extra)")
    done = subprocess.run([shellcheck, "-x", script], cwd=LAUNCH, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
    assert os.access(LAUNCH / script, os.X_OK) == (script != "lib.sh")
