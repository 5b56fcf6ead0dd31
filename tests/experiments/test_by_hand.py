"""intervene, generate, inspect, attack and import_model as commands, and what they say to who mistypes."""

import json
import random
import subprocess
import sys

import numpy as np
import pytest
from absl import flags
from absl.testing import flagsaver

from circuits_jax import TASKS, load_circuit, released
from circuits_jax.circuits.ablation.means import reference_activations
from circuits_jax.commands import attack, generate, import_model, inspect, intervene, tasks
from circuits_jax.data.programs.words import SPLITS
from circuits_jax.data.tokenizers.bpe import train_sentencepiece
from circuits_jax.model.fingerprint import model_hash
from circuits_jax.released import save_sparse
from circuits_jax.released.torch_files.write import write_torch_file
from circuits_jax.runs import importing
from circuits_jax.runs.exporting import export_circuits
from circuits_jax.runs.generation import stream
from circuits_jax.runs.importing import import_circuit
from circuits_jax.runs.inspection import find_token
from circuits_jax.runs.opening import load
from circuits_jax.storage.errors import UserError
from circuits_jax.tasks import find_task, load_task
from tests.experiments.command import ROOT, finish, start
from tests.released.models import TINY, forward, random_params
from tests.released.oracle import GOLDEN
from tests.released.viz.test_viz import CONFIG, published

SPARSE = str(GOLDEN / "b_sparse_rms_sink")
COMMANDS = {
    "attack": attack,
    "generate": generate,
    "import_model": import_model,
    "inspect": inspect,
    "intervene": intervene,
    "tasks": tasks,
}


@pytest.fixture(scope="module")
def tokenizer():
    texts = ["x = 5\nprint('five €')\nfor name in names:\n    print(name, [5, 6])\n"] * 20
    return train_sentencepiece(texts, 300, ('"', "'"))


@pytest.fixture(scope="module")
def sparse(tokenizer, tmp_path_factory):
    """A tiny model in our sparse format, with a tokenizer of its own."""
    folder = tmp_path_factory.mktemp("sparse")
    config = TINY.__class__(**{**vars(TINY), "vocab_size": tokenizer.vocab_size, "n_ctx": 12})
    save_sparse(random_params(config, seed=1, keep=0.3), config, folder, tokenizer)
    return str(folder)


def refusal(module, *arguments):
    """The one line that a command ends with."""
    with flagsaver.flagsaver(), pytest.raises(UserError) as error:
        COMMANDS[module].define_flags()
        flags.FLAGS([module, *arguments])
        COMMANDS[module].main()
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.slow
def test_generate_intervene_and_inspect_on_a_released_checkpoint(tmp_path):
    checkpoint = released.load(SPARSE)
    table = checkpoint.params["wte"]["embedding"]
    token = int(np.count_nonzero(table, axis=1).argmax())
    model = (f"--model={SPARSE}", "--cpu_devices=1", f"--workdir={tmp_path / 'out'}")
    processes = [
        start(tmp_path, "generate", *model, "--tokens=5,3,9", "--max_tokens=4", "--temperature=0"),
        start(tmp_path, "intervene", *model, "--tokens=5,3,9", "--set=1.mlp.post_act.4=9", "--positions=all"),
        start(tmp_path, "inspect", *model, f"--token=#{token}"),
    ]
    (_, written, _), (_, _, _), (_, seen, _) = results = [finish(process) for process in processes]
    assert [(code, errors) for code, _, errors in results] == [(0, [])] * 3

    expected = np.array([[5, 3, 9, 0, 0, 0, 0]])
    for end in range(3, 7):
        logits, _ = forward(checkpoint.network, checkpoint.params, expected)
        expected[0, end] = int(logits[0, end - 1].argmax())
    assert written.split() == [str(token) for token in expected[0]]

    rows = json.loads((tmp_path / "out" / "intervene.json").read_text())["rows"]
    assert {row["position"] for row in rows} == {0, 1, 2}
    for row in rows:
        assert row["logit"] == pytest.approx(
            float(logits[0, row["position"], int(row["next"][1:])]), abs=1e-4
        )
    assert max(abs(row["change"]) for row in rows) > 0.1

    rows = json.loads((tmp_path / "out" / "inspect.json").read_text())["rows"]
    nonzero = np.flatnonzero(table[token]).tolist()
    assert len(nonzero) > 1 and len(rows) == min(len(nonzero), 16)
    assert [row["channel"] for row in rows] == sorted(nonzero, key=lambda i: -abs(table[token, i]))[:16]
    for row in rows:
        assert row["weight"] == pytest.approx(float(table[token, row["channel"]]))
        assert row["other tokens"] == np.count_nonzero(table[:, row["channel"]]) - 1
    assert "weight-dead neuron" in seen and "rms" in seen


def test_a_sparse_folder_opens_with_its_tokenizer(sparse, tokenizer):
    opened = load(sparse)
    assert opened.config is None and opened.workdir is None
    model = opened.model
    assert opened.tokenizer.hash == model.tokenizer.hash == tokenizer.hash
    assert find_token("'", model) == tokenizer.encode("'")[0]
    assert find_token("#5", model) == find_token("299", model) - 294 == 5
    with pytest.raises(UserError, match="not one token"):
        find_token("names names", model)
    with pytest.raises(UserError, match="no token 300"):
        find_token("300", model)


@pytest.mark.parametrize(
    ("module", "arguments", "words"),
    [
        ("generate", ["--model=/no/such/folder", "--prompt=a"], "no model /no/such/folder"),
        ("generate", [f"--model={'x' * 5000}", "--prompt=a"], "no model xxx"),
        ("inspect", [f"--model={ROOT / 'circuits_jax'}"], "holds no weights"),
        ("generate", [f"--model={SPARSE}", "--prompt=a"], "no tokenizer lies beside"),
        ("generate", [f"--model={SPARSE}"], "give a prompt"),
        ("generate", [f"--model={SPARSE}", "--tokens=1,two"], "no number"),
        ("generate", [f"--model={SPARSE}", "--tokens=80"], "token 80"),
        (
            "generate",
            [f"--model={SPARSE}", "--tokens=" + "1," * 32 + "1"],
            "33 tokens, more than the context",
        ),
        ("generate", [f"--model={SPARSE}", "--tokens=1", "--top_k=0"], "top_k"),
        ("generate", [f"--model={SPARSE}", "--tokens=1", "--max_tokens=0"], "max_tokens"),
        ("intervene", [f"--model={SPARSE}", "--tokens=1"], "nothing to change"),
        ("intervene", [f"--model={SPARSE}", "--tokens=1", "--set=9.attn.q.1=0"], "unknown site '9.attn.q'"),
        ("intervene", [f"--model={SPARSE}", "--tokens=1", "--set=0.attn.q.99=0"], "no index 99"),
        ("intervene", [f"--model={SPARSE}", "--tokens=1", "--ablate=0.attn.q.1:mean"], "no means are known"),
        ("intervene", [f"--model={SPARSE}", "--tokens=1", "--set=0.attn.q.1:zero"], "lacks a '='"),
        (
            "intervene",
            [f"--model={SPARSE}", "--tokens=1", "--set=0.attn.q.1=0", "--positions=1"],
            "names position 1",
        ),
        (
            "intervene",
            [f"--model={SPARSE}", "--tokens=1", "--set=0.attn.q.1=0", "--at=some"],
            "choose all, last",
        ),
        ("intervene", [f"--model={SPARSE}", "--tokens=1", "--circuit=/no/where"], "cannot read the circuit"),
        ("import_model", [], "give --source"),
        ("import_model", ["--source=/no/where", "--workdir=/no/run"], "does not exist"),
        ("import_model", [f"--source={SPARSE}", "--workdir=/no/run"], "no tokenizer lies in"),
        ("import_model", ["--viz=viz_data.pt"], "give --viz and --viz_task together"),
        ("import_model", ["--viz=viz_data.pt", "--viz_task=quotes"], "'quotes'"),
        ("attack", [f"--model={SPARSE}", "--workdir=/no/run"], "there is no circuit"),
        (
            "import_model",
            ["--viz=a.pt", "--viz_task=var_if", "--tokenizer=x"],
            "--tokenizer would do nothing",
        ),
        ("import_model", ["--source=x", "--means=x", "--store=x"], "--means and --store would do nothing"),
        ("intervene", [f"--model={SPARSE}", "--circuit_role=means"], "do nothing without --circuit"),
        ("inspect", [f"--model={SPARSE}", "--channels=2"], "do nothing without --token"),
        ("tasks", ["--out=x", "--pairs=9"], "--out and --pairs would do nothing without --workdir"),
        ("tasks", ["--patterns"], "--patterns would do nothing without --workdir"),
        ("tasks", ["--workdir=/no/run", "--store=x"], "--store would do nothing without --patterns"),
        ("tasks", ["--workdir=x", "--patterns", "--pairs=9"], "--pairs would do nothing beside --patterns"),
        ("tasks", ["--workdir=/no/run", "--patterns"], "/no/run holds no run"),
        ("attack", ["--planted", "--model=x"], "--model would do nothing beside --planted"),
        ("attack", ["--planted", "--circuit=x"], "--circuit would do nothing beside --planted"),
        ("attack", ["--planted", "--elements=0,many"], "something that is no number"),
        ("attack", ["--planted", "--elements=0"], "makes no list longer"),
    ],
)
def test_bad_input_is_one_line(module, arguments, words):
    assert words in refusal(module, *arguments)


def test_a_published_circuit_becomes_one_of_a_workdir(tokenizer, tmp_path, monkeypatch):
    """Its file says nothing of means: they are those of the workdir's own corpus."""
    monkeypatch.setattr(
        importing,
        "corpus_means",
        lambda run: {
            site: mean + 0.5 for site, mean in reference_activations(run.model, None, "zero").items()
        },
    )
    config = CONFIG.__class__(**{**vars(CONFIG), "vocab_size": tokenizer.vocab_size})
    source = released.export(random_params(config), config, tmp_path / "model", tokenizer=tokenizer)
    workdir = released.as_workdir(source, tmp_path / "run")
    value = published()
    value["importances"]["beeg_model_config"]["vocab_size"] = tokenizer.vocab_size
    write_torch_file(tmp_path / "viz_data.pt", value)
    run = load(workdir)
    folder = import_circuit(tmp_path / "viz_data.pt", TASKS["single_double_quote"], run)
    circuit = load_circuit(folder)
    assert run.workdir == workdir and run.config.model == run.model.config
    circuit.check_model(model_hash(run.config.model, run.model.params), tokenizer.hash)
    assert circuit.task == "single_double_quote" and circuit.ablation == "mean"
    assert len(circuit.nodes) == 7 and circuit.means["0.mlp.post_act"].tolist() == [0.5] * 12
    (written,) = export_circuits(workdir / "circuits", "all", "viz")
    again = released.import_viz(written, circuit.task).circuit
    assert (again.nodes, again.edges) == (circuit.nodes, circuit.edges)
    own = tmp_path / "mine.jsonl"  # a task of the user's own is found again by its file
    pair = {"a": "x", "b": "y", "answer_a": "1", "answer_b": "2"}
    own.write_text("\n".join(json.dumps({**pair, "split": split}) for split in SPLITS))
    known = load_circuit(import_circuit(tmp_path / "viz_data.pt", load_task(own), run)).provenance
    assert known["prune"]["tasks"] == [str(own)] and known["task_file"]["name"] == str(own)
    assert find_task("mine", known["prune"]["tasks"]).file == str(own)
    with pytest.raises(UserError, match="is there already"):
        import_circuit(tmp_path / "viz_data.pt", TASKS["single_double_quote"], run)
    value["importances"]["beeg_model_config"]["vocab_size"] += 1
    write_torch_file(tmp_path / "viz_data.pt", value)
    with pytest.raises(UserError, match="not of this model"):
        import_circuit(tmp_path / "viz_data.pt", TASKS["bracket_counting"], run)
    assert not (workdir / "circuits" / "bracket_counting").exists()


def test_prompts_that_are_empty_or_too_long(sparse):
    assert "empty" in refusal("generate", f"--model={sparse}", "--prompt=")
    assert "context of 12" in refusal("generate", f"--model={sparse}", f"--prompt={'[5, 6] ' * 9}")


def test_a_model_with_more_ids_than_its_tokenizer(tokenizer, tmp_path, capsys):
    """What is told is the text of the ids that have one, and no other id is drawn."""
    config = TINY.__class__(**{**vars(TINY), "vocab_size": tokenizer.vocab_size + 40})
    save_sparse(random_params(config, seed=1), config, tmp_path, tokenizer)
    with flagsaver.flagsaver():
        generate.define_flags()
        tokens = [tokenizer.vocab_size + 3, *tokenizer.encode("name"), tokenizer.vocab_size + 39]
        told = ",".join(map(str, tokens))
        flags.FLAGS(["generate", f"--model={tmp_path}", f"--tokens={told}", "--max_tokens=4"])
        generate.main()
    assert capsys.readouterr().out.startswith("name")


def test_streamed_text_is_the_text_and_never_taken_back(tokenizer):
    rng = random.Random(0)
    for _ in range(300):
        kind = rng.random()
        text = "".join(rng.choice("ab €𝄞é\u2581\ufffd\n5") for _ in range(12))
        ids = tokenizer.encode(text)
        if kind < 0.5:  # bytes in any order are mostly no UTF-8
            ids = [rng.randrange(tokenizer.vocab_size) for _ in range(20)]
        pieces = list(stream(iter(ids), tokenizer.decode))
        assert "".join(pieces) == tokenizer.decode(ids)
        if kind >= 0.5:
            assert "".join(pieces) == text


def test_characters_come_as_soon_as_they_are_whole(tokenizer):
    ids = tokenizer.encode("a𝄞b")
    assert len(ids) == 6
    assert list(stream(iter(ids), tokenizer.decode)) == ["a", "", "", "", "𝄞", "b", ""]


def test_the_standard_library_keeps_its_inspect():
    script = "import inspect, experiments.inspect; assert hasattr(inspect, 'signature')"
    assert subprocess.run([sys.executable, "-c", script], cwd=ROOT).returncode == 0
    direct = subprocess.run(
        [sys.executable, "experiments/inspect.py"], cwd=ROOT, capture_output=True, text=True
    )
    assert direct.returncode != 0
    assert "python -m experiments.inspect" in direct.stderr.splitlines()[-1]
