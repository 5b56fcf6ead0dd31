"""What a user of the wheel does, at a tiny size: train, score, prune, audit, draw; and the command line.

Started by `test_wheel.py` outside the checkout, in an environment that has nothing but the wheel.
"""

import pathlib
import subprocess
import sys

import circuits_jax as cj

SETTINGS = {
    "data.validation_fraction": 0.25,
    "data.generated_share": 0.0,
    "model.n_layer": 1,
    "model.d_model": 32,
    "model.d_mlp": 32,
    "model.n_ctx": 64,
    "model.vocab_size": 1800,
    "train.steps": 8,
    "train.batch_size": 8,
    "train.eval_every": 4,
    "train.checkpoint_every": 4,
    "prune.steps": 20,
    "prune.edge_steps": 10,
    "prune.train_pairs": 32,
    "prune.select_pairs": 32,
    "prune.test_pairs": 32,
    "prune.importance_nodes": 4,
    "audit.pairs": 32,
    "audit.draws": 2,
    "audit.natural": 16,
}


def main(corpus: str, workdir: str) -> None:
    """Trains in `workdir` on the Python files under `corpus`."""
    assert "site-packages" in cj.__file__, cj.__file__
    config = cj.load_config("quickstart", {**SETTINGS, "data.roots": (corpus,)})
    run = cj.train(config, workdir)
    task = cj.TASKS["while_return_true"]
    print(run, run.score(task))
    try:
        run.prune(task)
    except cj.UserError as refusal:  # eight steps teach nothing
        print("refused:", refusal)
    circuit = run.prune(task, allow_unlearned=True)
    print(circuit)
    assert [each.task for each in run.circuits] == [task.name]
    report = run.audit(circuit, controls=False)
    assert report.verdict in ("not shown", "faithful", "no better than the control"), report.verdict
    print(report)
    page = pathlib.Path(run.page(circuit))
    assert page.read_text("utf-8").lower().startswith("<!doctype html>")
    logits, records = run.model("while True", record=["0.mlp.post_act"])
    without, _ = run.model("while True", tap=cj.taps.ablate(circuit))
    alone, _ = run.model("while True", tap=cj.taps.only(circuit))
    assert logits.shape == without.shape == alone.shape and records["0.mlp.post_act"].shape[-1] == 32
    again = cj.load(workdir)
    assert again.model.hash == run.model.hash
    command = [sys.executable, "-m", "circuits_jax", "view", workdir]
    shown = subprocess.run(command, capture_output=True, text=True)
    assert shown.returncode == 0 and shown.stdout.strip().endswith("report.html"), shown
    print("the wheel works")


if __name__ == "__main__":
    main(*sys.argv[1:])
