"""Writes a run's circuits for other programs: edge list (csv), GraphML, node-link JSON, or viz_data.pt.

    python -m experiments.export --workdir=runs/quickstart --task=single_double_quote --format=graphml

A file goes beside each circuit: `<workdir>/circuits/<task>/circuit_graph.<format>`, or with --format=viz
`viz_data.pt`, which holds what the released visualizer reads (but no texts).  No model is needed.
"""

from pathlib import Path

from absl import flags

from circuits_jax.checks import check_choice
from circuits_jax.circuits.circuit import MANIFEST, load_circuit
from circuits_jax.circuits.exports import FORMATS, export
from circuits_jax.errors import CircuitError
from circuits_jax.files import write_aside
from circuits_jax.released import export_viz
from experiments import common

_TASK = flags.DEFINE_string("task", "all", "Task whose circuit is exported, or all.")
STEM, VIZ, VIZ_FILE = "circuit_graph", "viz", "viz_data.pt"
_FORMAT = flags.DEFINE_string("format", "csv", f"One of {', '.join((*FORMATS, VIZ))}.")


def export_circuits(circuits: Path, task: str, form: str) -> list[Path]:
    """Exports the circuit of `task`, or all of them, found under the folder `circuits`.

    Returns:
      The files written.

    Raises:
      CircuitError: if there is no circuit, or none of that task.
      ConfigError: for an unknown format.
    """
    check_choice("--format", form, (*FORMATS, VIZ))
    there = sorted(path.parent.name for path in circuits.glob(f"*/{MANIFEST}"))
    if not there:
        raise CircuitError(f"no circuit in {circuits}; prune first (experiments.prune)")
    if task != "all" and task not in there:
        raise CircuitError(f"no circuit of task {task!r} in {circuits}, which has {', '.join(there)}")
    written = []
    for name in there if task == "all" else [task]:
        circuit = load_circuit(circuits / name)
        if form == VIZ:
            written.append(export_viz(circuit, circuits / name / VIZ_FILE))
            continue
        written.append(circuits / name / f"{STEM}.{form}")
        text = export(circuit, form)
        with write_aside(written[-1]) as file:
            file.write(text.encode())
    return written


def main() -> None:
    """The command."""
    for path in export_circuits(common.workdir() / "circuits", _TASK.value, _FORMAT.value):
        print(path)


if __name__ == "__main__":
    common.run(main)
