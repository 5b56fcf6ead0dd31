"""Circuits of several runs beside each other: rows, a file, and one line for what cannot be compared."""

import dataclasses
import json
import shutil

import pytest

from circuits_jax.circuits.stories.story import FILE
from circuits_jax.data.tokenizers.bpe import train_sentencepiece
from circuits_jax.runs.agreement import AgreementSettings, compare_seeds
from circuits_jax.storage.errors import CircuitError, ConfigError
from tests.circuits.stories.told import claim, role, told_of
from tests.runs.digits import TASK, make_model, make_run

ASKED = AgreementSettings(pairs=8)


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A run whose circuit has a story, and a copy of it without."""
    folder = tmp_path_factory.mktemp("runs")
    one = make_run(*make_model(tmp_path_factory.mktemp("task")), folder / "one")
    shutil.copytree(one.folder, folder / "other")
    (circuit,) = one.circuits
    node = next(node for node in circuit.nodes if node.site == "0.mlp.post_act")
    story = told_of(circuit, [role("carrier", [node], claim("swap"))])
    (one.folder / "circuits" / TASK / FILE).write_text(json.dumps(story))
    path = next(one.folder.parent.parent.glob("task*/*.jsonl"))
    return (one, dataclasses.replace(one, workdir=folder / "other")), node, str(path)


def test_a_circuit_agrees_with_itself_and_its_roles_are_told(runs, tmp_path):
    (one, other), node, path = runs
    rows, summary = compare_seeds((one, other), dataclasses.replace(ASKED, tasks=(path,)), tmp_path)
    assert [(row["circuit of"], row["looked for in"]) for row in rows] == [
        ("one", "other"), ("other", "one"),
    ]  # fmt: skip
    written = json.loads((tmp_path / "agreement.json").read_text())
    assert written["rows"] == rows and written["summary"] == summary and summary["pairs"] == 8
    (circuit,) = one.circuits
    assert len(written["nodes"]) == 2 * len(circuit.nodes)
    for row in written["nodes"]:  # a node that never changes is like nothing
        assert row["correlation"] in (pytest.approx(1, abs=1e-3), 0.0)
        assert row["correlation"] == row["correlation anywhere"]
    first, second = (
        next(row for row in written["nodes"] if row["node"] == str(node) and row["circuit of"] == label)
        for label in ("one", "other")
    )
    assert (first["role"], first["role there"]) == ("carrier", None)
    assert (second["role"], second["role there"]) == (None, "carrier")
    assert all(row["found"] == row["anywhere"] and row["nodes"] == row["nodes there"] for row in rows)


def test_what_cannot_be_compared_is_one_line(runs, tmp_path):
    (one, other), _, path = runs
    named = dataclasses.replace(ASKED, tasks=(path,))
    with pytest.raises(ConfigError, match="one run alone cannot agree"):
        compare_seeds([one], named, tmp_path)
    with pytest.raises(ConfigError, match="is named twice"):
        compare_seeds([one, one], named, tmp_path)
    with pytest.raises(CircuitError, match="other has no circuit of for_while; it has digits"):
        compare_seeds([other, one], dataclasses.replace(ASKED, tasks=("for_while",)), tmp_path)
    model = dataclasses.replace(one.model, tokenizer=train_sentencepiece(["x = 1\nprint(x)\n"] * 9, 270, ()))
    with pytest.raises(ConfigError, match="have different tokenizers"):
        compare_seeds([one, dataclasses.replace(other, model=model)], named, tmp_path)
    bare = dataclasses.replace(other, workdir=tmp_path / "bare")
    with pytest.raises(CircuitError, match="no task has a circuit in all of"):
        compare_seeds([one, bare], ASKED, tmp_path)
    assert not (tmp_path / "agreement.json").exists()
