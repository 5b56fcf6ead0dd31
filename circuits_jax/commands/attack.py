"""Understanding used: lists that fool a model's bracket circuit, derived from the circuit, and controls.

    python -m circuits_jax attack --model=runs/quickstart [--circuit=FOLDER --elements=0,4,16]
    python -m circuits_jax attack --planted --workdir=runs/planted

`circuits.attack` says what is predicted and measured.  Writes attack.json and attack.png
into the workdir, or into the folder --out.
"""

from absl import flags

from circuits_jax.circuits.attack.attack import plant_case
from circuits_jax.commands import launching, path_flags
from circuits_jax.commands.reading import read_numbers
from circuits_jax.runs.attacking import TASK, attack, attack_circuit, lengths
from circuits_jax.storage.filenames import CIRCUITS
from circuits_jax.storage.files import check_writable
from circuits_jax.storage.paths import as_path


def define_flags() -> None:
    """The flags of this command."""
    launching.define_model()
    flags.DEFINE_string("circuit", None, "A circuit's folder.")
    flags.DEFINE_bool("planted", False, "Attack a hand-wired bracket network instead of --model.")
    flags.DEFINE_integer("lists", 128, "Test pairs of lists.", lower_bound=8)
    flags.DEFINE_list("elements", ["0", "1", "2", "4", "8", "16"], "Elements to add to the list.")
    path_flags.define_out_folder("the figures and the picture instead of the workdir")


def main() -> None:
    """The command."""
    given = flags.FLAGS
    launching.refuse_with("planted", "model", "circuit")
    elements = lengths(read_numbers("elements"))
    if given.planted:
        case, folder = plant_case(given.lists), launching.workdir()
    else:
        run = launching.open_model()
        folder = launching.workdir() if run.workdir is None else run.folder
        case = attack_circuit(run, as_path(given.circuit or folder / CIRCUITS / TASK), given.lists)
    out = path_flags.out_folder() or folder
    check_writable(out, "or name a folder of yours: --out=DIR")
    rows, summary, picture = attack(case, elements, out)
    launching.report(rows, None, summary)
    print(picture)
