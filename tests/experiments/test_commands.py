"""The commands as such: where each lies, how they are listed, and that each refuses what it does not use."""

import importlib
import inspect
import subprocess
import sys

import pytest
from absl import flags
from absl.testing import flagsaver

from circuits_jax.__main__ import COMMANDS
from circuits_jax.commands import launching
from circuits_jax.tasks import TASKS
from tests.experiments.command import ROOT, finish, start

LONGEST = 60  # lines of a file in experiments/
UNUSED = (
    ("quickstart", "--compare=a,b"),
    ("quickstart", "--annotations=x"),
    ("quickstart", "--tensorboard"),
    ("generate", "--controls=false"),
    ("attack", "--store=x"),
)


def called(*arguments):
    """Exit code, stdout and stderr of `python -m circuits_jax ARGUMENTS`."""
    done = subprocess.run(
        [sys.executable, "-m", "circuits_jax", *arguments], cwd=ROOT, capture_output=True, text=True
    )
    return done.returncode, done.stdout, done.stderr


def test_every_script_of_the_folder_is_a_command():
    scripts = {path.stem for path in (ROOT / "experiments").glob("*.py")} - {"__init__"}
    assert scripts == set(COMMANDS) and len(COMMANDS) == len(scripts)


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_is_a_short_script_and_a_module_of_the_library(name):
    script = (ROOT / "experiments" / f"{name}.py").read_text("utf-8")
    assert len(script.splitlines()) < LONGEST
    assert f"python -m experiments.{name}" in script and f'run("{name}", sys.argv[1:])' in script
    module = importlib.import_module(f"circuits_jax.commands.{name}")
    assert callable(module.define_flags) and callable(module.main)
    assert f"python -m circuits_jax {name}" in module.__doc__


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_has_no_flags_but_its_own_and_those_that_it_shares(name):
    module = importlib.import_module(f"circuits_jax.commands.{name}")
    others = {f"circuits_jax.commands.{other}" for other in COMMANDS} - {module.__name__}
    with flagsaver.flagsaver():
        module.define_flags()
        defined = {where: list(given) for where, given in flags.FLAGS.flags_by_module_dict().items()}
        assert [where for where in others if defined.get(where)] == []
        assert "cpu_devices" in [flag.name for flag in defined[launching.__name__]]
        for command, flag in UNUSED:
            if command == name:
                assert flag.lstrip("-").partition("=")[0] not in flags.FLAGS


# How a command reads flags by `launching`, `setting_flags` and `reading`; others it takes as they are.
READ_BY = {
    "workdir": ("launching.workdir()", "launching.model_name()", "launching.open_model()"),
    "model": ("launching.model_name()", "launching.open_model()"),
    "store": ("launching.store()", "launching.open_model()", "setting_flags.read_config()"),
    "config": ("setting_flags.read_config()", "setting_flags.run_config("),
    "prompt": ("read_prompt(",),
    "tokens": ("read_prompt(",),
    "positions": ('read_positions("positions"',),
    "at": ('read_positions("at"',),
    "elements": ('read_numbers("elements")',),
    "points": ('read_numbers("points")',),
    "out": ("launching.report(", "path_flags.out_folder("),
}
OF_PROCESSES = {
    "coordinator",
    "processes",
    "process",
    "distributed",
    "join_timeout",
}  # `launching` reads them


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_reads_every_flag_that_it_has(name):
    module = importlib.import_module(f"circuits_jax.commands.{name}")
    source = inspect.getsource(module)
    before = set(flags.FLAGS)
    with flagsaver.flagsaver():
        module.define_flags()
        own = {flag.partition(".")[0] for flag in set(flags.FLAGS) - before}
    for flag in own - OF_PROCESSES:
        ways = (*READ_BY.get(flag, ()), f"given.{flag}", f"flags.FLAGS.{flag}")
        read = any(way in source for way in ways)
        assert read, f"{name} takes --{flag} and does nothing with it"


@pytest.mark.parametrize("arguments", [(), ("--help",)], ids=["nothing", "help"])
def test_without_a_command_all_are_listed(arguments):
    code, out, errors = called(*arguments)
    assert (code, errors) == (0, "")
    first = out.splitlines()[0]
    assert first.partition("one of: ")[2].split(", ") == list(COMMANDS)


def test_an_unknown_command_is_one_line():
    code, out, errors = called("prnue", "--workdir=runs/mine")
    assert (code, out) == (1, "")
    (line,) = errors.splitlines()
    assert line.startswith("error: there is no command 'prnue'")
    assert [name for name in COMMANDS if name not in line] == []


def test_a_flag_that_a_command_does_not_use_is_refused(tmp_path):
    processes = [start(tmp_path, *given, f"--workdir={tmp_path / 'run'}") for given in UNUSED]
    for (_, flag), process in zip(UNUSED, processes, strict=True):
        code, out, errors = finish(process)
        assert (code, out) == (1, "")
        (line,) = errors
        assert line.startswith("error: ") and repr(flag.lstrip("-").partition("=")[0]) in line
    assert not (tmp_path / "run").exists()


def test_help_tells_what_the_command_does_and_its_own_and_shared_flags(tmp_path):
    code, out, errors = finish(start(tmp_path, "prune", "--help"))
    assert code == 1 and errors == []  # absl's exit code for help
    assert out.startswith("Cuts the circuits") and "python -m circuits_jax prune" in out
    for flag in ("config", "cpu_devices", "seeds", "tasks", "trials", "workdir"):
        assert f"--{flag}:" in out
    assert "--tensorboard" not in out and "--controls" not in out


def test_tasks_are_listed_without_any_workdir(tmp_path):
    code, out, errors = finish(start(tmp_path, "tasks"))
    assert (code, errors) == (0, [])
    lines = out.splitlines()
    heads, pairs = lines[::3], list(zip(lines[1::3], lines[2::3], strict=True))
    assert len(TASKS) == 20 and len(heads) == len(pairs) == 20
    assert [head.partition(":")[0].partition(" ")[0] for head in heads] == list(TASKS)
    for head, task in zip(heads, TASKS.values(), strict=True):
        assert task.description in head
    for first, second in pairs:
        assert first.startswith("  A  ") and second.startswith("  B  ")
        prompts = [line[5:].partition(" -> ") for line in (first, second)]
        assert all(arrow == " -> " and answer for _, arrow, answer in prompts)
        assert first[5:] != second[5:]
