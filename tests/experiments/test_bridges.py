"""experiments.bridges and experiments.steer as commands, on tiny models; bad input is one line."""

import dataclasses
import json
import shutil

import pytest

from circuits_jax.bridges.records import MANIFEST
from circuits_jax.config import SteerConfig
from circuits_jax.data.tokenizers.bpe import train_sentencepiece
from circuits_jax.runs.bridging import read_bridges, read_models, train_bridges
from circuits_jax.runs.opening import load_model
from circuits_jax.runs.steering import steer
from circuits_jax.storage.errors import UserError
from circuits_jax.training.metrics import read_metrics
from circuits_jax.training.workdir import load_config
from tests.experiments.command import finish, start
from tests.experiments.test_pretrain_processes import free_port
from tests.training.tiny import program, replace, write_programs

STEPS = 12
FLAGS = (
    "--cpu_devices=1",
    *("--config.model.n_layer=1", "--config.model.d_model=16", "--config.model.d_mlp=32"),
    *("--config.model.n_ctx=32", "--config.model.vocab_size=300", "--config.model.activation_fraction=1"),
    *("--config.data.validation_fraction=0.25", "--config.data.generated_share=0.0"),
    *("--config.train.batch_size=2", f"--config.train.steps={STEPS}", "--config.train.checkpoint_every=6"),
    *("--config.train.eval_every=12", "--config.train.eval_batches=2", "--config.bridge.ridge_batches=2"),
    *("--config.steer.pairs=8", "--config.steer.choose_pairs=8", "--config.steer.draws=2"),
    *("--config.steer.texts=4", "--config.steer.strengths=(1.0,4.0)"),
)


def write_task(path):
    """A task of lists and tuples of digits, which any tokenizer takes."""
    lines = []
    for number in range(96):
        body = ", ".join(f"{number:02}{number * 7 % 100:02}5")
        pair = {"a": f"x = [{body}", "b": f"x = ({body}", "answer_a": "]", "answer_b": ")"}
        lines.append(json.dumps(pair | {"split": ("train", "select", "test")[number % 3]}))
    path.write_text("\n".join(lines))


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with a corpus and a place for compiled programs."""
    folder = tmp_path_factory.mktemp("place")
    write_programs(folder / "tree")
    return folder


@pytest.fixture(scope="module")
def command(place):
    """Starts a tiny experiment in a workdir, flags added."""

    def run(module, workdir, *flags):
        paths = (f"--config.data.roots={place / 'tree'}", f"--workdir={workdir}")
        return start(place / "programs", module, *FLAGS, *paths, *flags)

    return run


@pytest.fixture(scope="module")
def dense(command, place):
    """A dense model's workdir."""
    code, _, errors = finish(command("pretrain", place / "dense", "--config.sparsity.target=1.0"))
    assert code == 0, errors
    return place / "dense"


@pytest.fixture(scope="module")
def bridged(command, place, dense):
    """The workdir of a coupled run, and what the command printed."""
    code, out, errors = finish(command("bridges", place / "bridges", f"--config.bridge.dense={dense}"))
    assert code == 0, errors
    assert errors == []
    return place / "bridges", out


def refused(act, *words):
    """That `act()` raises an error for people, whose one line holds `words`."""
    with pytest.raises(UserError) as caught:
        act()
    message = str(caught.value)
    assert [word for word in words if word not in message] == [] and "\n" not in message, message


@pytest.mark.slow
def test_a_coupled_run_leaves_bridges_a_model_a_table_and_a_page(bridged):
    workdir, out = bridged
    found = json.loads((workdir / "bridges.json").read_text())
    assert len(found["rows"]) == 6 and "0.resid_mid" in out and "bridges.html" in out
    assert found["report"]["sites"] == ["0.resid_in", "0.resid_mid", "final_resid"]
    assert "Sites and routes" in (workdir / "bridges.html").read_text()
    assert (workdir / "sparse" / "config.json").exists() and (workdir / "bridge" / MANIFEST).exists()


@pytest.mark.slow
def test_steering_leaves_its_figures_and_its_curves(bridged, command, place):
    workdir = bridged[0]
    write_task(place / "brackets.jsonl")
    task = f"--config.steer.tasks=('{place / 'brackets.jsonl'}',)"
    flags = (task, "--nodes=0.mlp.post_act.3,0.mlp.act_in.2")
    code, out, errors = finish(command("steer", workdir, *flags))
    assert code == 0, errors
    (report,) = json.loads((workdir / "steer.json").read_text())["tasks"].values()
    assert report["nodes"] == ["0.mlp.post_act.3", "0.mlp.act_in.2"] and report["pairs"] == 8
    assert report["strengths"] == [0.0, 1.0, 4.0] and "brackets" in out
    assert report["select"]["pairs"] == 8 and len(report["select"]["flipped"]) == 3
    for series in report["series"].values():
        assert len(series["other_answer"]) == len(series["flipped"]) == 3
    page = (workdir / "bridges.html").read_text()
    assert "Sites and routes" in page and "probability of B" in page


@pytest.mark.slow
def test_given_again_the_command_trains_nothing(bridged, command, dense):
    workdir, _ = bridged
    before = (workdir / "metrics.jsonl").read_bytes()
    code, _, errors = finish(command("bridges", workdir, f"--config.bridge.dense={dense}"))
    assert code == 0, errors
    assert (workdir / "metrics.jsonl").read_bytes() == before


@pytest.mark.slow
def test_bridges_alone_between_trained_models(bridged, command, dense, place):
    sparse = bridged[0] / "sparse"
    flags = (f"--config.bridge.dense={dense}", f"--config.bridge.sparse={sparse}")
    code, _, errors = finish(command("bridges", place / "alone", *flags))
    assert code == 0, errors
    assert not (place / "alone" / "sparse").exists() and (place / "alone" / "bridge" / MANIFEST).exists()


@pytest.mark.slow
def test_two_processes_give_the_result_of_one(bridged, command, dense, tmp_path):
    address = f"--coordinator=127.0.0.1:{free_port()}"
    flags = (f"--config.bridge.dense={dense}", address, "--processes=2")
    both = [command("bridges", tmp_path / "run", *flags, f"--process={index}") for index in (0, 1)]
    for process in both:
        code, _, errors = finish(process)
        assert code == 0, errors
    for row, expected in zip(read_metrics(tmp_path / "run"), read_metrics(bridged[0]), strict=True):
        assert row["loss"] == pytest.approx(expected["loss"], abs=1e-3)
    assert (tmp_path / "run" / "sparse" / "config.json").exists()
    assert (tmp_path / "run" / "bridges.html").exists()


def test_bad_input_ends_a_command_with_one_line(command, tmp_path):
    code, _, errors = finish(command("bridges", tmp_path / "run"))
    assert code == 1 and len(errors) == 1, errors
    assert errors[0].startswith("error: no dense model is named") and "--config.bridge.dense" in errors[0]
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("section", "values", "words"),
    [
        ("bridge", {"dense": "/nowhere"}, ["/nowhere"]),
        ("model", {"n_layer": 2}, ["dense model has 1 layers, the sparse one 2"]),
        ("model", {"n_ctx": 16}, ["32 tokens of context", "16"]),
        ("model", {"vocab_size": 280}, ["model.vocab_size"]),
        ("bridge", {"fraction": 0.01}, ["bridge.fraction is 0.01", "16 channels"]),
        ("train", {"start_from": "/nowhere"}, ["/nowhere"]),
    ],
    ids=["nowhere", "depth", "context", "vocabulary", "nothing kept", "no start"],
)
def test_bad_input_to_training_is_one_line(bridged, tmp_path, section, values, words):
    config = replace(load_config(bridged[0]), section, **values)
    refused(lambda: train_bridges(config, tmp_path / "run"), *words)
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("values", "words"),
    [({"encoder": "relu"}, ["bridge.encoder", "'relu'", "threshold"]), ({"top_n": 1}, ["bridge.top_n is 1"])],
)
def test_settings_that_cannot_be_used_are_one_line(bridged, values, words):
    refused(lambda: replace(load_config(bridged[0]), "bridge", **values), *words)


@pytest.mark.slow
def test_a_start_of_another_width_and_a_frozen_model_that_is_to_start_are_refused(bridged, dense, tmp_path):
    config = replace(load_config(bridged[0]), "train", start_from=str(dense))
    wide = dataclasses.replace(config, model=dataclasses.replace(config.model, d_model=32))
    refused(lambda: train_bridges(wide, tmp_path / "run"), "start_from", "config.model.d_model=16")
    both = replace(config, "bridge", sparse=str(bridged[0] / "sparse"))
    refused(lambda: train_bridges(both, tmp_path / "run"), "train.start_from", "bridge.sparse")


@pytest.mark.slow
def test_models_of_other_tokenizers_are_refused(bridged, dense, tmp_path):
    shutil.copytree(dense, tmp_path / "other", ignore=shutil.ignore_patterns("data"))
    texts = [program(number)[::-1] for number in range(24)]
    train_sentencepiece(texts, 300, ()).save(tmp_path / "other" / "tokenizer.model")
    config = replace(load_config(bridged[0]), "bridge", sparse=str(tmp_path / "other"))
    refused(lambda: read_models(config, bridged[0]), "different tokenizers", str(dense))
    config = replace(load_config(bridged[0]), "train", start_from=str(tmp_path / "other"))
    refused(lambda: train_bridges(config, tmp_path / "run"), "different tokenizers")


@pytest.mark.slow
def test_a_workdir_of_another_kind_is_refused(bridged, dense):
    refused(lambda: train_bridges(load_config(bridged[0]), dense), str(dense), "another configuration")
    refused(lambda: steer(dense, SteerConfig()), str(dense), "python -m circuits_jax bridges")


@pytest.mark.slow
def test_a_dense_model_that_has_moved_is_found_where_the_flag_says(bridged, command, dense, place, tmp_path):
    workdir, moved = bridged[0], tmp_path / "moved [1]"
    write_task(place / "brackets.jsonl")
    flags = (f"--config.steer.tasks=('{place / 'brackets.jsonl'}',)", "--nodes=0.mlp.post_act.3")
    there, before = f"--config.bridge.dense={moved}", (workdir / "metrics.jsonl").read_bytes()
    dense.rename(moved)
    try:
        code, _, errors = finish(command("steer", workdir, *flags))
        assert code == 1 and len(errors) == 1 and "--config.bridge.dense=FOLDER" in errors[0], errors
        code, _, errors = finish(command("bridges", workdir, f"--config.bridge.dense={dense}"))
        assert code == 1 and len(errors) == 1 and "--config.bridge.dense=FOLDER" in errors[0], errors
        for module, given in (("steer", flags), ("bridges", ()), ("steer", flags)):
            code, _, errors = finish(command(module, workdir, *given, there))
            assert code == 0, errors
        assert (workdir / "metrics.jsonl").read_bytes() == before  # nothing is trained again
        code, _, errors = finish(command("steer", workdir, *flags))  # the new place is remembered
        assert code == 0, errors
    finally:
        moved.rename(dense)


@pytest.mark.slow
def test_bridges_of_another_dense_model_are_refused(bridged, tmp_path):
    workdir = shutil.copytree(bridged[0], tmp_path / "run", ignore=shutil.ignore_patterns("data"))
    config = json.loads((workdir / "config.json").read_text())
    config["bridge"]["dense"] = str(workdir / "sparse")
    (workdir / "config.json").write_text(json.dumps(config))
    refused(lambda: steer(workdir, SteerConfig()), "join the dense model", "not")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("nodes", "circuit", "tasks", "words"),
    [
        (["0.mlp.post_act.999"], None, None, ["0.mlp.post_act.999", "outside the sparse model"]),
        (["0.attn.q.1"], None, None, ["writes nothing"]),
        (None, None, ("nonsense",), ["nonsense", "single_double_quote"]),
        (None, "/nowhere", None, ["/nowhere"]),
        (None, None, ("single_double_quote",), ["single_double_quote"]),
    ],
    ids=["node", "query", "task", "circuit", "no pairs under this tokenizer"],
)
def test_bad_input_to_steering_is_one_line(bridged, nodes, circuit, tasks, words):
    config = SteerConfig() if tasks is None else SteerConfig(tasks=tasks)
    refused(lambda: steer(bridged[0], config, nodes, circuit), *words)


@pytest.mark.slow
def test_sites_that_are_not_there_are_one_line(bridged):
    refused(
        lambda: steer(bridged[0], SteerConfig(), None, None, ["*.mlp.neuron"]), "no site matches", "neuron"
    )


@pytest.mark.slow
def test_a_strength_that_overflows_is_one_line_and_leaves_nothing(bridged, place, tmp_path):
    write_task(place / "brackets.jsonl")
    workdir = shutil.copytree(bridged[0], tmp_path / "run")
    (workdir / "steer.json").unlink(missing_ok=True)
    config = SteerConfig(tasks=(str(place / "brackets.jsonl"),), strengths=(0.0, 1e30), pairs=8, draws=1)
    refused(lambda: steer(workdir, config, ["0.mlp.post_act.3"]), "1e+30 overflows", "steer.strengths")
    assert not (workdir / "steer.json").exists()


def test_strengths_out_of_order_are_one_line():
    refused(lambda: SteerConfig(strengths=(2.0, 1.0)), "steer.strengths", "increasing")


@pytest.mark.slow
def test_a_coupled_model_whose_table_is_counted(command, dense, place):
    """It is trained, written with its counts, opened, bridged again as it is, and resumed."""
    counts = ("--config.model.bigram=counts", "--config.train.bigram_prior=20")
    flags = (f"--config.bridge.dense={dense}", *counts)
    for _ in range(2):
        code, _, errors = finish(command("bridges", place / "counted", *flags))
        assert code == 0, errors
    sparse = place / "counted" / "sparse"
    assert (sparse / "bigram.npz").read_bytes() == (place / "counted" / "bigram.npz").read_bytes()
    model = load_model(sparse)
    assert model.config.bigram == "counts" and model.params["bigram"].shape == (300, 300)
    flags = (f"--config.bridge.dense={dense}", f"--config.bridge.sparse={sparse}")
    code, _, errors = finish(command("bridges", place / "counted alone", *flags))
    assert code == 0, errors
    assert read_bridges(place / "counted alone").joined.sparse.hash == model.hash
