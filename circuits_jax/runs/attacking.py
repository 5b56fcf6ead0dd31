"""Understanding used: lists that fool a model's bracket circuit, derived from the circuit, and controls.

`circuits.attack` says what is predicted and measured.
"""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from circuits_jax.circuits.attack.attack import SEED, Attack, DilutionCase, summarize
from circuits_jax.runs.by_hand import read_circuit_of
from circuits_jax.runs.pruning import cut_command
from circuits_jax.runs.run import Run
from circuits_jax.storage.errors import CircuitError, TaskError
from circuits_jax.storage.filenames import ATTACK, ATTACK_PICTURE
from circuits_jax.storage.files import write_aside
from circuits_jax.storage.paths import is_folder
from circuits_jax.storage.tables import Row, save_table
from circuits_jax.tasks import Pairs, build_pairs, get_task
from circuits_jax.tasks.longer import longer_comments, longer_lists

TASK = "bracket_counting"
TITLES = {
    "accuracy": "accuracy",
    "difference": "logit difference, A - B",
    "score": "score, share of the short lists'",
}


def attack_circuit(run: Run, folder: Path, lists: int) -> DilutionCase:
    """The bracket circuit in `folder`, cut from the run's model, and lists made longer.

    Raises:
      CircuitError: if there is none, or it is of another task or model.
    """
    if not is_folder(folder):
        way = "name one: --circuit=FOLDER"
        if run.workdir is not None:
            way = f"cut one: {cut_command(run)} --tasks={TASK}"
        raise CircuitError(f"there is no circuit {folder}; {way}")
    circuit, tokenizer, n_ctx = (
        read_circuit_of(run.model, folder),
        run.model.tokenizer,
        run.model.config.n_ctx,
    )
    if tokenizer is None or circuit.task != TASK:
        raise CircuitError(
            f"{folder} is of {circuit.task}; the attack needs a circuit of {TASK} and a tokenizer"
        )
    short = build_pairs(get_task(TASK), tokenizer, "test", lists, SEED, n_ctx)

    def filler(kind: str) -> Callable[[int], Pairs]:
        return lambda count: longer_lists(short, tokenizer, count, kind, SEED, n_ctx)

    return DilutionCase(
        name=run.model.name,
        model=run.model,
        masks=circuit.masks(),
        means=dict(circuit.means),
        short=short,
        fillers={"digits in the list": filler("d"), "names in the list": filler("n")},
        elsewhere=lambda added: longer_comments(short, tokenizer, added, SEED, n_ctx),
    )


def attack(case: DilutionCase, elements: Iterable[int], folder: Path) -> tuple[list[Row], Row, Path]:
    """Measures the attack; writes `attack.json` and `attack.png` into `folder`.

    Args:
      case: Of `attack_circuit`, or planted.
      elements: How many to add to the lists; 0, the lists as they are, is always among them.
      folder: Of the files.

    Returns:
      (one row an arm, length and prompt role, the attack in a few lines, the picture).

    Raises:
      TaskError: if a number of elements is negative, or none is greater than 0.
    """
    measured = Attack(case, lengths(elements))
    rows = measured.rows()
    summary = {"target": case.name, "heads": measured.heads(), **summarize(rows)}
    save_table(rows, folder / ATTACK, summary)
    draw(rows, folder / ATTACK_PICTURE)
    return rows, summary, folder / ATTACK_PICTURE


def lengths(elements: Iterable[int]) -> list[int]:
    """Numbers of elements to add, each once and in order, 0 among them.

    Raises:
      TaskError: if one is negative, or none is greater than 0.
    """
    found = sorted({0, *elements})
    if found[0] < 0 or found[-1] == 0:
        raise TaskError(f"{', '.join(map(str, found))} makes no list longer; give numbers from 1 on")
    return found


def draw(rows: list[Row], path: Path) -> None:
    """Accuracy, logit difference and score against length; crosses are what the circuit predicts."""
    from matplotlib.figure import Figure  # only here: it is slow to import

    figure = Figure(figsize=(15, 5), layout="constrained")
    axes = figure.subplots(1, len(TITLES))
    arms = list(dict.fromkeys(row["arm"] for row in rows))
    for axis, (what, title) in zip(axes, TITLES.items(), strict=True):
        axis.set(title=title, xlabel="tokens added")
        for number, arm in enumerate(arms):
            for role, style in (("A", "-"), ("B", ":")):
                chosen = [row for row in rows if row["arm"] == arm and row["prompts"] == role]
                # Thinner and thinner, because lines may lie on one another.
                look = {"color": f"C{number}", "lw": 5 - 4 * number / len(arms), "ls": style}
                _line(axis, chosen, what, look, f"{arm}, prompts {role}")
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(arms), fontsize=8)
    with write_aside(path) as file:
        figure.savefig(file, format="png", dpi=110)


def _line(axis: Any, rows: list[Row], what: str, look: dict[str, Any], label: str) -> None:
    """One arm and role: measured with its interval, and predicted."""
    x = [row["tokens added"] for row in rows]
    axis.plot(x, [row[what] for row in rows], label=label, **look)
    if f"{what} low" in rows[0]:
        low, high = ([row[f"{what} {end}"] for row in rows] for end in ("low", "high"))
        axis.fill_between(x, low, high, color=look["color"], alpha=0.15, lw=0)
    if f"{what} predicted" in rows[0]:
        axis.plot(x, [row[f"{what} predicted"] for row in rows], color=look["color"], ls="", marker="x")
