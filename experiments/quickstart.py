"""From Python source to readable circuits in one go: corpus, training, pruning, page.

    python -m experiments.quickstart

A second call with the same workdir reuses what is finished and goes on with the rest.
"""

import time

import jax

from circuits_jax.model.transformer import Transformer
from circuits_jax.sparsity.report import summarize_sparsity
from circuits_jax.training.metrics import read_metrics
from circuits_jax.training.run import Run
from experiments import common
from experiments.pretrain import pretrain
from experiments.prune import prune_tasks, table
from experiments.view import write_page


def main() -> None:
    """The command."""
    began = time.perf_counter()
    config, workdir = common.read_config(), common.workdir()
    state, corpus = pretrain(config, workdir)
    run = Run(config, Transformer(config.model), jax.device_get(state.params), corpus.tokenizer)
    outcomes = prune_tasks(run, corpus, config.prune, workdir)
    last = read_metrics(workdir)[-1]
    summary = {
        "validation loss": last["validation_loss"],
        "L0": last["l0"],
        "steps": last["step"],
        "parameters": sum(x.size for x in jax.tree.leaves(run.params)),
        "files": corpus.files,
        "skipped files": corpus.skipped,
        "tokens": corpus.tokens,
    }
    page = write_page(run, corpus, outcomes, summary, workdir)
    print(summarize_sparsity(run.params))
    seconds = {"seconds of this call": round(time.perf_counter() - began, 1)}
    common.report(table(outcomes), workdir / "quickstart.json", summary | seconds)
    print(f"page: {page}")


if __name__ == "__main__":
    common.run(main)
