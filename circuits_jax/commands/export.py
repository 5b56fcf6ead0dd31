"""Writes a run's circuits for other programs: edge list (csv), GraphML, node-link JSON, or viz_data.pt.

    python -m circuits_jax export --workdir=runs/quickstart --task=single_double_quote --format=graphml

A file goes beside each circuit: `<workdir>/circuits/<task>/circuit_graph.<format>`, or with --format=viz
`viz_data.pt`, which holds what the released visualizer reads (but no texts).  With --out=DIR it is
`DIR/<task>/...`.  No model is needed.
"""

from absl import flags

from circuits_jax.circuits.export import FORMATS
from circuits_jax.commands import launching, path_flags
from circuits_jax.runs.exporting import VIZ, export_circuits
from circuits_jax.storage.filenames import CIRCUITS


def define_flags() -> None:
    """The flags of this command."""
    launching.define_workdir()
    flags.DEFINE_string("task", "all", "Task whose circuit is exported, or all.")
    flags.DEFINE_string("format", "csv", f"One of {', '.join((*FORMATS, VIZ))}.")
    path_flags.define_out_folder("the files instead of that of the circuits")


def main() -> None:
    """The command."""
    circuits, given = launching.workdir() / CIRCUITS, flags.FLAGS
    for path in export_circuits(circuits, given.task, given.format, path_flags.out_folder()):
        print(path)
