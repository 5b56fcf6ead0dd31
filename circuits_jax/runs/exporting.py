"""A run's circuits for other programs: edge list (csv), GraphML, node-link JSON, or `viz_data.pt`."""

from pathlib import Path

from circuits_jax.circuits.circuit import MANIFEST, Circuit, load_circuit
from circuits_jax.circuits.export import FORMATS, export
from circuits_jax.config.checks import check_choice
from circuits_jax.released import export_viz
from circuits_jax.storage import notices
from circuits_jax.storage.errors import CircuitError
from circuits_jax.storage.files import check_writable, write_aside

STEM, VIZ, VIZ_FILE = "circuit_graph", "viz", "viz_data.pt"


def export_circuits(circuits: Path, task: str, form: str, out: Path | None = None) -> list[Path]:
    """Exports the circuit of `task`, or all of them, found under the folder `circuits`.

    Args:
      circuits: With a folder a circuit.
      task: Whose circuit, or "all".
      form: One of FORMATS, or VIZ.
      out: Folder that gets a folder a circuit; by default `circuits`.

    Returns:
      The files written.

    Raises:
      CircuitError: if there is no circuit, or none of that task; circuits that only "all" names and that
        cannot be read are left out, which is told, unless none is left.
      ConfigError: for an unknown format.
      UserError: if the folder cannot be written; nothing was exported then.
    """
    check_choice("the format", form, (*FORMATS, VIZ))
    there = sorted(path.parent.name for path in circuits.glob(f"*/{MANIFEST}"))
    if not there:
        raise CircuitError(f"no circuit in {circuits}; prune first: python -m circuits_jax prune")
    if task != "all" and task not in there:
        raise CircuitError(f"no circuit of task {task!r} in {circuits}, which has {', '.join(there)}")
    home = out or circuits
    check_writable(home, "or name a folder of yours: --out=DIR")
    written, left_out = list[Path](), list[str]()
    for name in there if task == "all" else [task]:
        try:
            circuit = load_circuit(circuits / name)
            written.append(_write(circuit, form, home / name))
        except CircuitError as error:
            if task != "all":
                raise
            left_out.append(str(error))
            notices.at_the_end(f"left out {name}: {error}")
    if not written:
        raise CircuitError("; ".join(left_out[:3]))
    return written


def _write(circuit: Circuit, form: str, folder: Path) -> Path:
    if form == VIZ:
        return export_viz(circuit, folder / VIZ_FILE)
    text = export(circuit, form)
    with write_aside(folder / f"{STEM}.{form}") as file:
        file.write(text.encode())
    return folder / f"{STEM}.{form}"
