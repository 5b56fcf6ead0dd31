"""Trains bridges between a dense and a sparse model, and says how well they bridge.

    python -m circuits_jax bridges --config=bridges --config.bridge.dense=runs/dense --workdir=runs/bridges
    python -m circuits_jax bridges --config.bridge.dense=runs/dense --config.bridge.sparse=runs/sparse ...

The first trains the sparse model of `config.model` from scratch, coupled to the dense one (with
--config.train.start_from=runs/sparse from the parameters of a trained one); the second takes a sparse model
as it is and trains bridges alone.  Run again with the same command, it goes on from its newest checkpoint.
The workdir gets `bridge/` (the bridges), `sparse/` (a coupled sparse model, a workdir like any other: cut
circuits with `prune --workdir=.../sparse`), `bridges.json` and `bridges.html`.
"""

from absl import flags

from circuits_jax.commands import launching, setting_flags
from circuits_jax.runs.bridging import evaluate, train_bridges
from circuits_jax.training.multihost.processes import is_primary


def define_flags() -> None:
    """The flags of this command."""
    launching.define_workdir()
    launching.define_store()
    setting_flags.define_config()
    launching.define_processes()
    flags.DEFINE_bool("tensorboard", False, "Write TensorBoard summaries too.")


def main() -> None:
    """The command."""
    config, workdir = setting_flags.read_config(), launching.workdir()
    joined, corpus = train_bridges(config, workdir, flags.FLAGS.tensorboard)
    if is_primary():
        rows, summary, page = evaluate(joined, corpus, config, workdir)
        launching.report(rows, None, summary)
        print(page)
