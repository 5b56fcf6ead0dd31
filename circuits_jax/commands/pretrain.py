"""Trains a weight-sparse model, on a laptop or a pod.

    python -m circuits_jax pretrain --workdir=runs/mine --config.train.steps=4000
    python -m circuits_jax pretrain --workdir=gs://bucket/mine --config.mesh.model=4 --distributed

Run again with the same command, it goes on from its newest checkpoint.  --config.train.start_from=WORKDIR
starts from the parameters of another run, or of a released model, with fresh schedules.
"""

from absl import flags

from circuits_jax.commands import launching, setting_flags
from circuits_jax.runs.training import pretrain
from circuits_jax.sparsity.report import summarize_sparsity
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
    state, _ = pretrain(setting_flags.read_config(), launching.workdir(), flags.FLAGS.tensorboard)
    summary = summarize_sparsity(state.params)
    if is_primary():
        print(summary)
