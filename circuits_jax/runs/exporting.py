"""A run's circuits for other programs: edge list (csv), GraphML, node-link JSON, or `viz_data.pt`."""

from pathlib import Path

from circuits_jax.circuits.circuit import MANIFEST, load_circuit
from circuits_jax.circuits.export import FORMATS, export
from circuits_jax.config.checks import check_choice
from circuits_jax.released import export_viz
from circuits_jax.storage.errors import CircuitError
from circuits_jax.storage.files import write_aside

STEM, VIZ, VIZ_FILE = "circuit_graph", "viz", "viz_data.pt"


def export_circuits(circuits: Path, task: str, form: str) -> list[Path]:
    """Exports the circuit of `task`, or all of them, found under the folder `circuits`.

    Returns:
      The files written.

    Raises:
      CircuitError: if there is no circuit, or none of that task.
      ConfigError: for an unknown format.
    """
    check_choice("the format", form, (*FORMATS, VIZ))
    there = sorted(path.parent.name for path in circuits.glob(f"*/{MANIFEST}"))
    if not there:
        raise CircuitError(f"no circuit in {circuits}; prune first: python -m circuits_jax prune")
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
