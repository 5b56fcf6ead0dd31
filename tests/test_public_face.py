"""The names that people import: there, lazy, seen by type checkers, and without side effects."""

import ast
import importlib
import importlib.metadata
import json
import pathlib
import subprocess
import sys
import warnings

import pytest

import circuits_jax


def run(code: str) -> str:
    """What a fresh interpreter prints."""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    return result.stdout


def test_every_name_resolves_and_an_unknown_one_does_not():
    for name in circuits_jax.__all__:
        assert getattr(circuits_jax, name) is not None
    assert set(dir(circuits_jax)) == set(circuits_jax.__all__)
    with pytest.raises(AttributeError, match="no attribute 'trian'"):
        circuits_jax.trian  # noqa: B018


MODEL = circuits_jax.Model(circuits_jax.ModelConfig(), {})
RUN, TASK = circuits_jax.Run(MODEL), circuits_jax.TASKS["with_as"]


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: circuits_jax.TASKS["quotes"], "unknown task 'quotes'; choose one of"),
        (lambda: circuits_jax.train("quickstart", "run"), "the configuration is 'quickstart'; give"),
        (lambda: circuits_jax.train({}, "run"), "the configuration is a dict; give what cj.load_config"),
        (lambda: circuits_jax.train(circuits_jax.Config(), ""), "the workdir is empty"),
        (lambda: circuits_jax.train(circuits_jax.Config(), None), "the workdir is None; give a folder"),
        (lambda: circuits_jax.load(""), "the name of the model is empty"),
        (lambda: circuits_jax.load(None), "the model is None; give a folder, a file or hf:owner/name"),
        (lambda: circuits_jax.load(b"run"), "the model is b'run'; give a folder"),
        (lambda: circuits_jax.load_config({}), "the configuration is a dict; give its name or file"),
        (lambda: circuits_jax.load_config("quickstart", ["x"]), "what changes settings is a list; give {"),
        (lambda: circuits_jax.load_config("quickstart", {1: 2}), "unknown setting 1; write SECTION.FIELD"),
        (lambda: circuits_jax.load_task(None), "the task's file is None; give its name; built-in tasks"),
        (lambda: circuits_jax.load_task("with_as"), "built-in task and no file; write cj.TASKS['with_as']"),
        (lambda: circuits_jax.load_circuit(3), "the path is 3; give a name"),
        (lambda: circuits_jax.released.load(None), "the path is None; give a name"),
        (lambda: circuits_jax.taps.only("quotes"), "the circuit is 'quotes'; give what run.prune"),
        (lambda: circuits_jax.taps.ablate(None), "the circuit is None; give what run.prune"),
        (lambda: RUN.score("with_as"), "the task is 'with_as'; give cj.TASKS[NAME], or cj.load_task(FILE)"),
        (lambda: RUN.score(TASK, circuit="with_as"), "the circuit is 'with_as'; give one of run.circuits"),
        (lambda: RUN.score(TASK, pairs=0), "the number of pairs is 0; it must be greater than 0"),
        (lambda: RUN.score(TASK, pairs=2.5), "the number of pairs is 2.5; give a whole number"),
        (lambda: RUN.prune([TASK]), "the task is a list; give cj.TASKS[NAME]"),
        (lambda: RUN.prune(TASK, settings={"steps": 3}), "how to prune is a dict; give a cj.PruneConfig"),
        (lambda: RUN.audit(TASK), "the circuit is a Task; give one of run.circuits"),
        (lambda: RUN.readings(None), "the circuit is None; give one of run.circuits"),
        (lambda: RUN.story("with_as"), "the circuit is 'with_as'; give one of run.circuits"),
        (lambda: RUN.page("with_as"), "the circuit is 'with_as'; give one of run.circuits"),
        (lambda: MODEL([1], record="0.attn.v"), "record is '0.attn.v'; give a list of sites"),
        (lambda: MODEL([1], tap="0.attn.v"), "the tap is '0.attn.v'; give f(site, x) -> x"),
    ],
)
def test_what_cannot_be_used_is_refused_in_one_line(call, words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(circuits_jax.UserError) as refused:
        call()
    assert words in str(refused.value) and "\n" not in str(refused.value)
    assert not list(tmp_path.iterdir())


def test_type_checkers_see_the_names_that_resolve():
    tree = ast.parse(pathlib.Path(circuits_jax.__file__).read_text("utf-8"))
    (block,) = (
        node for node in tree.body if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
    )
    seen = {}
    for node in block.body:
        if isinstance(node, ast.ImportFrom):
            seen |= {alias.asname: f"{node.module}.{alias.name}" for alias in node.names}
    assert set(seen) | {"__version__"} == set(circuits_jax.__all__)
    for name, home in seen.items():  # the same object, wherever it is said to live
        module, _, attribute = home.rpartition(".")
        there = importlib.import_module(home) if name in circuits_jax._MODULES else None
        assert getattr(circuits_jax, name) is (there or getattr(importlib.import_module(module), attribute))
    assert (pathlib.Path(circuits_jax.__file__).parent / "py.typed").exists()


def test_names_of_the_release_before_still_work_and_warn():
    for name in circuits_jax._REPLACED:
        with pytest.warns(DeprecationWarning, match=f"circuits_jax.{name} goes with the next release; use"):
            assert getattr(circuits_jax, name) is not None
        assert name not in circuits_jax.__all__


def test_importing_is_light():
    heavy = ("jax", "tensorflow", "matplotlib", "playwright", "orbax", "grain")
    code = f"""
import json, sys
import circuits_jax
loaded = lambda names: [name for name in names if name in sys.modules]
before = loaded({heavy})
circuits_jax.load_circuit, circuits_jax.Circuit
circuit = loaded({heavy})
circuits_jax.train, circuits_jax.load, circuits_jax.Run, circuits_jax.TASKS
print(json.dumps([before, circuit, loaded(("tensorflow", "matplotlib", "playwright"))]))
"""
    assert json.loads(run(code)) == [[], [], []]


def test_importing_leaves_the_process_as_it_was():
    code = """
import logging, sys, json
from absl import flags, logging as absl_logging
def state():
    return [absl_logging.get_verbosity(), logging.getLogger("absl").level, logging.getLogger().level,
            flags.FLAGS.is_parsed(), sys.stdout is sys.__stdout__, sys.argv]
before = state()
import circuits_jax as cj
for name in cj.__all__:
    getattr(cj, name)
print(json.dumps(before == state()))
"""
    assert json.loads(run(code)) is True


def test_the_version_is_that_of_the_installed_package():
    assert circuits_jax.__version__ == importlib.metadata.version("circuits_jax")


def test_no_warning_comes_with_the_names_of_today():
    with warnings.catch_warnings():
        warnings.simplefilter("error", DeprecationWarning)
        for name in circuits_jax.__all__:
            getattr(circuits_jax, name)
