"""Every flag and every setting that takes a path, in a folder whose name holds what names seldom hold."""

import dataclasses
import importlib
import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from absl import flags
from absl.testing import flagsaver

from circuits_jax.__main__ import COMMANDS
from circuits_jax.circuits import graph
from circuits_jax.circuits.circuit import Calibration, Circuit
from circuits_jax.circuits.masks import full_masks
from circuits_jax.commands import path_flags
from circuits_jax.config import Config, PruneConfig, to_dict
from circuits_jax.model.sites import node_sites
from circuits_jax.released import export, export_viz
from circuits_jax.runs.opening import load_workdir
from tests.experiments.command import ROOT
from tests.experiments.test_bridges import FLAGS, write_task
from tests.training.tiny import write_programs

STRANGE = 'runs, of [a-z] *? 100%20 #1 it\'s "é🦒"'
# Text flags and settings that name no file.
WORDS = {
    "ablate", "ablations", "at", "circuit_role", "coordinator", "elements", "format", "nodes", "positions",
    "points", "prompt", "set", "sites", "task", "token", "tokens", "topology", "viz_task", "what",
    "data.exclude", "data.hash", "data.name", "data.source", "data.symbols", "data.text",
    "audit.acdc_cost", "bridge.encoder", "mesh.kernels", "mesh.precision", "mesh.remat", "mesh.rules",
    "model.activation", "model.activation_locations", "model.attention", "model.bigram",
    "model.dtype", "model.norm", "model.position",
    "model.residual_activation", "frontier.compare", "frontier.series", "optimizer.rms_entries",
    "optimizer.gradient_mode", "prune.ablation", "prune.batching", "sparsity.anneal",
}  # fmt: skip

TINY = " ".join(FLAGS)
AUDIT = "--config.audit.pairs=8 --config.audit.draws=2 --config.audit.natural=8"
PRUNE = (
    "--config.prune.steps=2 --config.prune.train_pairs=8 --config.prune.select_pairs=8 "
    "--config.prune.test_pairs=8 "
    "--config.prune.batch_pairs=8 --config.prune.mean_batches=1"
)
# One command after another, in the strange folder, which is also the home folder.
STEPS = (
    f"pretrain --workdir=~/dense/ --config=~/mine.py --config.data.roots='(\"~/tree\",)' {TINY} "
    "--config.sparsity.target=1.0 --config.data.store=~/store/",
    f"pretrain --workdir=./run --config=mine.py --config.train.start_from=~/dense --store=store {TINY} "
    "--config.data.roots='(\"tree\",)'",
    "ship --workdir=~/dense/ --out=~/out/shipped --store=~/store",
    "tasks --workdir={0}/run/ --tasks={0}/brackets.jsonl,for_while --out=~/out/tasks.json",
    f"prune --workdir=run --config=~/mine.py --tasks=brackets.jsonl --store=~/store {PRUNE}",
    f"prune --workdir=run --config={{0}}/mine.py --config.prune.tasks='(\"~/brackets.jsonl\",)' {PRUNE}",
    f"exhaust --workdir=run/ --config=~/mine.py --tasks=~/brackets.jsonl --store=store {PRUNE}",
    "CIRCUIT",
    f"audit --workdir=~/run --config=~/mine.py --tasks=~/brackets.jsonl --controls=false --store=store "
    f"{AUDIT}",
    f"audit --workdir=run --tasks={{0}}/brackets.jsonl --controls=false --out=~/out/audit {AUDIT}",
    "readings --workdir=run/ --config=~/mine.py --tasks=~/brackets.jsonl --rules=~/none.json --store=store",
    "stories --workdir=run/ --config=~/mine.py --tasks=~/brackets.jsonl --store=store",
    "view --workdir=run --tasks=~/brackets.jsonl --annotations=~/notes.json --store=~/store",
    "view --model=~/run --tasks=~/brackets.jsonl --out=~/out/named",
    "view run --tasks=brackets.jsonl --compare=brackets,{0}/run/circuits/brackets --out={0}/out/two.html "
    "--store=store",
    "tasks --workdir=run --tasks=for_while --patterns --store=store",
    "inspect --model=~/run --token=#5 --out=~/out/inspect.json --store=store",
    "inspect --workdir=run/ --windows=2",
    "intervene --model=run/ --tokens=5,6 --circuit=~/run/circuits/brackets --out=out/edit.json --store=store",
    "intervene --workdir=~/run --tokens=5,6 --ablate=0.attn.v.1:mean",
    "generate --model=~/run --tokens=5,6 --max_tokens=2",
    "generate --workdir=run --tokens=5,6 --max_tokens=2",
    "export --workdir=~/run --format=graphml",
    "export --workdir=run/ --format=viz --out=~/out/exports",
    "agreement --runs=~/run,{0}/run --tasks=~/brackets.jsonl --workdir=~/agreement --store=~/store",
    "attack --model=~/run --circuit=~/run/circuits/brackets",
    "attack --workdir=attacks --planted --lists=8 --elements=0,1 --out={0}/out/attack",
    "import_model --source=~/released --tokenizer=~/run/ --workdir=~/theirs",
    "import_model --workdir=theirs --viz=~/viz_data.pt --viz_task=single_double_quote --means=~/none.pt "
    "--store=store",
    "planted --workdir=~/planted/ --config=mine.py --seeds=0",
    "tracr --workdir=~/compiled/ --config=~/mine.py --programs=none",
    f"bridges --workdir=~/bridges --config=~/mine.py --config.bridge.dense=dense --store=store {TINY} "
    "--config.data.roots='(\"tree\",)'",
    f"bridges --workdir=alone --config=mine.py --config.bridge.dense=~/dense --config.bridge.sparse=~/run/ "
    f"{TINY} --config.data.roots='(\"tree\",)'",
    f"steer --workdir=~/bridges --config=~/mine.py --config.steer.tasks='(\"~/brackets.jsonl\",)' {TINY} "
    "--nodes=0.mlp.post_act.3 --store=store",
    f"steer --workdir=alone --config=mine.py --config.steer.tasks='(\"brackets.jsonl\",)' {TINY} "
    "--circuit=~/run/circuits/brackets",
    "quickstart --workdir=~/run --config=~/mine.py --config.train.steps=99 --store=store",
    f"device_check --workdir=~/check/ --config=~/mine.py {TINY} --steps=1",
    "frontier --plan --workdir=~/frontier/ --config=~/mine.py --store=store "
    "--config.frontier.series='(\"a: train.steps=9\",)'",
    "compile --config=~/mine.py --json=~/out/compiled.json --topology=v9:1x1",
)
# What ends a step that cannot succeed with a model so small; it shows that the path was understood.
REFUSED = {
    "readings": "/none.json|brackets",
    "stories": "the circuit of brackets has no story",
    "agreement": "is named twice",
    "attack --model": "is of brackets; the attack needs a circuit of bracket_counting",
    "import_model --workdir": "/none.pt",
    "planted": "lower_bound|seeds",
    "tracr": "there is no program none; choose of frac_prevs",
    "compile": "v9",
    "quickstart": "holds a run of another configuration",
    "prune": "brackets",
}


def text_flags():
    """{(command, flag)} of the flags that take text."""
    found = set()
    for command in COMMANDS:
        module = importlib.import_module(f"circuits_jax.commands.{command}")
        with flagsaver.flagsaver():
            before = set(flags.FLAGS)
            module.define_flags()
            own = set(flags.FLAGS) - before
            kinds = {name: flags.FLAGS[name].flag_type() for name in own}
            for name in own:
                delattr(flags.FLAGS, name)
        found |= {(command, name) for name in own if kinds[name] not in ("bool", "int", "float")}
    return found


def text_settings():
    """Settings that are text or hold text."""
    return {
        f"{section.name}.{field.name}"
        for section in dataclasses.fields(Config)
        if dataclasses.is_dataclass(section.type)
        for field in dataclasses.fields(section.type)
        if "str" in str(field.type)
    }


def tried():
    """(command, flag) and settings that STEPS give."""
    found = set()
    for step in STEPS:
        command, *arguments = shlex.split(step)
        arguments = [f"--workdir={each}" if not each.startswith("--") else each for each in arguments]
        for name in (argument[2:].partition("=")[0] for argument in arguments):
            found.add(name.removeprefix("config.") if name.startswith("config.") else (command, name))
    return found


def test_every_flag_that_takes_a_path_is_tried_and_every_setting():
    given = tried()
    for command, flag in text_flags():
        assert flag in WORDS or (command, flag) in given, f"try --{flag} of {command}, or say in WORDS"
    for setting in text_settings():
        assert setting in WORDS or setting in given, f"try {setting}, or say in WORDS"


def test_names_with_commas_between_them_may_be_paths_that_hold_commas(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("a, b/mine.py", "a, b/c,d.jsonl", '"odd".py'):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("")
    cases = {
        "with_as,a, b/mine.py,all": ["with_as", "a, b/mine.py", "all"],
        f"{tmp_path}/a, b/c,d.jsonl,a, b/mine.py": [f"{tmp_path}/a, b/c,d.jsonl", "a, b/mine.py"],
        '"odd".py': ['"odd".py'],
        "with_as, for_while": ["with_as", "for_while"],
        '"with_as",gs://bucket/a': ["with_as", "gs://bucket/a"],
        "nowhere/x,y.py,": ["nowhere/x", "y.py", ""],
        "": [],
    }
    for given, names in cases.items():
        assert path_flags._Names().parse(given) == names


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """The strange folder, with what the commands read."""
    folder = tmp_path_factory.mktemp("paths") / STRANGE
    write_programs(folder / "tree")
    write_task(folder / "brackets.jsonl")
    (folder / "mine.py").write_text("from circuits_jax.configs.quickstart import get_config\n")
    (folder / "notes.json").write_text('{"format": "circuits_jax.annotations", "version": 1, "circuits": {}}')
    (folder / "out").mkdir()
    return folder


def cut_by_hand(folder):
    """A circuit of every third node, and the model and the circuit as others publish theirs."""
    run = load_workdir(folder / "run")
    config = run.config.model
    masks = full_masks(config)
    for mask in masks.values():
        mask[:] = [number % 3 == 0 for number in range(len(mask))]
    nodes = graph.nodes_of(config, masks)
    prune = PruneConfig(
        steps=2, batch_pairs=8, train_pairs=8, select_pairs=8, test_pairs=8, mean_batches=1, ablation="zero",
        tasks=(str(folder / "brackets.jsonl"),),
    )  # fmt: skip
    circuit = Circuit(
        task="brackets",
        nodes=nodes,
        edges=graph.edges_of(config, run.model.params, nodes),
        bias_only=(False,) * len(nodes),
        means={site: [0.0] * width for site, width in node_sites(config).items()},
        ablation="zero",
        embedding=(),
        unembedding=(),
        calibration=Calibration(1.0, 0.0),
        metrics={"test/calibrated_loss": 1.0},
        model_config=to_dict(config),
        model_hash=run.model.hash,
        tokenizer_hash=run.tokenizer.hash,
        provenance={"prune": to_dict(prune)},
    )
    circuit.save(folder / "run" / "circuits" / "brackets")
    export(run.model.params, config, folder / "released")
    export_viz(circuit, folder / "viz_data.pt")


@pytest.mark.slow
def test_every_flag_that_takes_a_path_takes_any(place):
    environment = os.environ | {
        "HOME": str(place), "PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu", "COLUMNS": "200",
        "JAX_COMPILATION_CACHE_DIR": str(place.parent / "programs"),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    }  # fmt: skip
    failed = []
    for step in STEPS:
        if step == "CIRCUIT":
            cut_by_hand(place)
            continue
        arguments = [each.replace("{0}", str(place)) for each in shlex.split(step)]
        done = subprocess.run(
            [sys.executable, "-m", "circuits_jax", *arguments],
            cwd=place, env=environment, capture_output=True, text=True,
        )  # fmt: skip
        refusal = next((said for begin, said in REFUSED.items() if step.startswith(begin)), None)
        told = [line for line in done.stderr.splitlines() if line.startswith("error:")]
        known = refusal is not None and told and any(part in told[0] for part in refusal.split("|"))
        if "Traceback" in done.stderr or (done.returncode and not known):
            failed.append((step, told or done.stderr[-2000:]))
    assert failed == []
    strays = {path.name for path in place.iterdir()} - {Path(each).name for each in EXPECTED}
    assert strays == set(), strays


EXPECTED = (
    "tree", "brackets.jsonl", "mine.py", "notes.json", "out", "dense", "run", "store", "released", "theirs",
    "viz_data.pt", "attacks", "planted", "bridges", "alone", "check", "frontier", ".cache", "__pycache__",
    ".config",
)  # fmt: skip
