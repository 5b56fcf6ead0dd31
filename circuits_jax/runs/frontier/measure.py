"""One model of a frontier: trained, pruned for every task, drawn; and how its learning rate is chosen.

What is finished is a file, and a file is one model's alone, so that any number of processes may work on one
list.  A model that is trained is not trained again, and circuits that were cut stay.
"""

import contextlib
import dataclasses
import math
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from circuits_jax.circuits import graph
from circuits_jax.circuits.masks import full_masks, size
from circuits_jax.config import PruneConfig
from circuits_jax.configs.figures import figures
from circuits_jax.runs.frontier.points import MODELS, FrontierPoint, middle
from circuits_jax.runs.listed_runs import ListedRun, training_figures
from circuits_jax.runs.pages import write_pages
from circuits_jax.runs.pruning import Outcome, prune_tasks, tasks_of
from circuits_jax.runs.run import Run
from circuits_jax.runs.training import train
from circuits_jax.storage import filenames
from circuits_jax.storage.errors import DivergenceError, LockError
from circuits_jax.storage.files import read_json_if_any, write_json
from circuits_jax.storage.locks import locked
from circuits_jax.storage.paths import as_path
from circuits_jax.storage.tables import Report

Note = Callable[[str], Any]
MOST_DRAWN = 4096  # edges of a circuit that gets a page
_LOOK_SECONDS = 5.0


def measured(point: FrontierPoint) -> Report | None:
    """What was found of a point, if it was measured with these very settings."""
    found = read_json_if_any(point.result)
    return found if found.get("identity") == point.identity else None


def measure(point: FrontierPoint, points: Sequence[FrontierPoint], note: Note) -> Report | None:
    """Trains and prunes a model, unless that is done, and keeps what is found.

    Args:
      point: Which.
      points: The whole list.
      note: Called with lines about what happens.

    Returns:
      What was found; None, which is told, if another process is at it.
    """
    if (known := measured(point)) is not None:
        return known
    with contextlib.ExitStack() as stack:
        if not _taken(point.result, stack):
            note(f"left out for now: {point.name}, which another process measures")
            return None
        if (known := measured(point)) is not None:  # until now
            return known
        rate = chosen_rate(point, points, note)
        found: Report = {"identity": point.identity, "name": point.name, "learning_rate": rate}
        found |= _trained_and_pruned(_with_corpus(point.run(rate), points), note)
        write_json(point.result, found)
        return found


def chosen_rate(point: FrontierPoint, points: Sequence[FrontierPoint], note: Note) -> float:
    """The learning rate of a point's series, after trying those that were not tried yet.

    Trials that other processes are at are waited for.  A single rate needs none.
    """
    if not point.chooses:
        return point.given_rate
    alike, told = [each for each in points if each.series == point.series], False
    while missing := [rate for rate, trial in trials(alike).items() if trial is None]:
        if any([_try(middle(alike), rate, points, note) for rate in missing]):
            continue
        if not told:
            note(f"waiting for other processes, which try learning rates of {point.series}")
            told = True
        time.sleep(_LOOK_SECONDS)
    return best_rate({rate: trial["loss"] for rate, trial in trials(alike).items() if trial is not None})


def trials(alike: Sequence[FrontierPoint]) -> dict[float, Report | None]:
    """{rate: {"loss": validation loss, or None if it diverged, ...}, or None if it was not tried}."""
    found: dict[float, Report | None] = {}
    tried = middle(alike)
    for rate in tried.rates:
        path, digest = tried.trial(rate)
        known = read_json_if_any(path)
        found[rate] = known if known.get("identity") == digest else None
    return found


def best_rate(losses: Mapping[float, float | None]) -> float:
    """The rate of lowest loss; if all diverged, the smallest."""
    return min(losses, key=lambda rate: (math.inf if losses[rate] is None else losses[rate], rate))


def _try(tried: FrontierPoint, rate: float, points: Sequence[FrontierPoint], note: Note) -> bool:
    """Trains a model with a rate, unless that is done; False if another process is at it."""
    path, digest = tried.trial(rate)
    with contextlib.ExitStack() as stack:
        if not _taken(path, stack):
            return False
        if read_json_if_any(path).get("identity") == digest:  # until now
            return True
        note(f"learning rate {rate:g} of {tried.series}, tried on {tried.size}, seed {tried.seed}")
        found: Report = {"identity": digest, "rate": rate, "loss": None}
        listed = _with_corpus(tried.run(rate), points)
        with contextlib.suppress(DivergenceError):
            run = train(listed.config, listed.folder)
            trained = training_figures(run)
            found |= {"loss": trained.loss, "minutes": trained.minutes, "corpus": run.corpus.hash}
        write_json(path, found)
        return True


def _with_corpus(listed: ListedRun, points: Sequence[FrontierPoint]) -> ListedRun:
    """The run with the corpus that runs before it had, if that is there: it then reads no sources.

    Where results were handed on without it, it is made anew; that its hash is the same is checked with the
    results (`summary.check_one_corpus`).
    """
    data = listed.config.data
    for point in points:
        known = [measured(point), *(trials([point]).values() if point.rates else ())]
        for found in known:
            name = None if found is None else found.get("corpus")
            if name and (as_path(data.store or "") / name).exists():
                named = dataclasses.replace(data, hash=name)
                return dataclasses.replace(listed, config=dataclasses.replace(listed.config, data=named))
    return listed


def _trained_and_pruned(listed: ListedRun, note: Note) -> Report:
    """What a result holds beside which point it is of."""
    counts = figures(listed.config)
    found: Report = {
        "folder": listed.folder.name,
        "parameters": counts.parameters,
        "nonzeros": counts.nonzeros,
        "loss": None,
        "bits_per_byte": None,
        "diverged": None,
        "tasks": {},
        "pages": None,
    }
    try:
        run = train(listed.config, listed.folder)
    except DivergenceError as error:
        note(f"{listed.name} diverged: {error}")
        return found | {"diverged": str(error)}
    trained, began, prune = training_figures(run), time.monotonic(), listed.config.prune
    outcomes = prune_tasks(run, tasks_of(prune.tasks), prune)
    seconds = time.monotonic() - began
    whole = {
        "all_edges": graph.count_edges(run.model.config, run.model.params),
        "all_nodes": size(full_masks(run.model.config, final=bool(prune.final_resid))),
    }
    return found | {
        **whole,
        "loss": trained.loss,
        "bits_per_byte": trained.bits_per_byte,
        "model": run.model.hash,
        "corpus": run.corpus.hash,
        "tokenizer": run.tokenizer.hash,
        "training_hours": trained.minutes / 60,
        "pruning_hours": seconds / 3600,
        "tasks": {outcome.task: task_figures(outcome, prune, whole) for outcome in outcomes},
        "pages": _draw(run, outcomes),
    }


def task_figures(outcome: Outcome, prune: PruneConfig, whole: Mapping[str, int]) -> Report:
    """One task of one model.

    Args:
      outcome: Of pruning.
      prune: How it was pruned.
      whole: {"all_edges", "all_nodes"} of the model, which count where the circuit misses the target.

    Returns:
      {"learnt": False, "why"} for a task that the model has not learnt, else {"learnt": True, "met": whether
      the circuit meets the target on select pairs, "edges", "nodes": what counts, and figures of what was
      found}.
    """
    circuit = outcome.circuit
    if circuit is None:
        return {"learnt": False, "why": outcome.refusal}
    told, met = circuit.metrics, bool(circuit.provenance["met_target"])
    return {
        "learnt": True,
        "met": met,
        "edges": len(circuit.edges) if met else whole["all_edges"],
        "nodes": len(circuit.nodes) if met else whole["all_nodes"],
        "found_edges": len(circuit.edges),
        "found_nodes": len(circuit.nodes),
        "select_loss": told["select/calibrated_loss"],
        "test_loss": told["test/calibrated_loss"],
        "test_accuracy": told["test/calibrated_accuracy"],
        "uncalibrated_accuracy": told["test/accuracy"],
        "model_select_loss": told["full/select/calibrated_loss"],
        "model_test_loss": told["full/test/calibrated_loss"],
        "slack": told.get("run/slack", prune.slack),
    }


def _draw(run: Run, outcomes: Sequence[Outcome]) -> str | None:
    """The pages of the circuits that are not too large for one; where their index lies in the workdir."""
    shown = [outcome if _edges(outcome) <= MOST_DRAWN else _undrawn(outcome) for outcome in outcomes]
    if all(outcome.circuit is None for outcome in shown):
        return None
    write_pages(run, shown, {})
    return f"{MODELS}/{run.folder.name}/{filenames.INDEX}"


def _undrawn(outcome: Outcome) -> Outcome:
    why = f"a circuit of {_edges(outcome):,} edges is not drawn; more than {MOST_DRAWN:,} are too many"
    return dataclasses.replace(outcome, circuit=None, refusal=why)


def _edges(outcome: Outcome) -> int:
    return 0 if outcome.circuit is None else len(outcome.circuit.edges)


def _taken(path: Path, stack: contextlib.ExitStack) -> bool:
    """Takes what makes `path` for this process alone, until the stack ends; False if another has it."""
    try:
        stack.enter_context(locked(path.parent, f".{path.stem}.lock"))
    except LockError:
        return False
    return True
