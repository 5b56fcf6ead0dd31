"""Does pruning find circuits that are known?  Precision and recall on planted networks, nodes and edges.

    python -m circuits_jax planted --workdir=runs/planted --seeds=5

Each seed is another network: other distractors, other pairs, another layout, other first masks.
"""

from absl import flags

from circuits_jax.commands import launching, setting_flags
from circuits_jax.runs.planted import benchmark, summarize
from circuits_jax.storage.filenames import PLANTED
from circuits_jax.storage.files import check_writable


def define_flags() -> None:
    """The flags of this command."""
    launching.define_workdir()
    setting_flags.define_config()
    flags.DEFINE_integer("seeds", 5, "Networks of each circuit.", lower_bound=1)
    flags.DEFINE_bool("superposed", True, "Distractors share the circuits' channels and heads.")


def main() -> None:
    """The command."""
    check_writable(launching.workdir())
    rows = benchmark(setting_flags.read_config().prune, flags.FLAGS.seeds, flags.FLAGS.superposed)
    launching.report(rows, launching.workdir() / PLANTED, summarize(rows))
