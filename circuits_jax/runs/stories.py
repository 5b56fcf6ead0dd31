"""The stories of a run's circuits: are their claims true of the whole model?  (docs/method.md, "Stories")

`<workdir>/circuits/<task>/story.json` tells a circuit; people write it, and figures are written into it here.
A story that was measured already, as it is told and with the same settings, is not measured again.
"""

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from circuits_jax.circuits.ablation.means import reference_activations
from circuits_jax.circuits.ablation.pairs import pair_batch
from circuits_jax.circuits.audit.intervals import ClusteredIntervals
from circuits_jax.circuits.circuit import Circuit
from circuits_jax.circuits.readings.rules import Words
from circuits_jax.circuits.stories.controls import DRAWS
from circuits_jax.circuits.stories.files import has_story, read_story
from circuits_jax.circuits.stories.measure import RANDOM_PAIRS, StoryMeasurer
from circuits_jax.circuits.stories.story import FILE, Story
from circuits_jax.config import AuditConfig
from circuits_jax.model.sites import FINAL
from circuits_jax.runs.auditing import AuditSubject, saved_subject
from circuits_jax.runs.corpora import reference_windows
from circuits_jax.runs.judging import judging_pairs
from circuits_jax.storage.errors import CircuitError
from circuits_jax.storage.filenames import CIRCUITS
from circuits_jax.storage.files import check_writable
from circuits_jax.storage.locks import locked
from circuits_jax.storage.progress import ProgressBar
from circuits_jax.training.device_memory import AUDITING, memory_told
from circuits_jax.training.multihost.processes import is_primary

if TYPE_CHECKING:
    from circuits_jax.runs.run import Run

LOCK = ".stories.lock"


def measure_story(run: "Run", circuit: Circuit) -> Story:
    """See `Run.story`."""
    return measure_stories(run, [saved_subject(run, circuit)], run.whole_config.audit)[circuit.task]


def measure_stories(run: "Run", subjects: Sequence[AuditSubject], config: AuditConfig) -> dict[str, Story]:
    """Measures the claims of the stories beside circuits, and writes the figures into them.

    Args:
      run: With a workdir and a corpus.
      subjects: Of `find_subjects`, each with a story.
      config: `pairs`, `seed` and `confidence` are the audit's: the test pairs are too.

    Returns:
      {task: its story}.

    Raises:
      CircuitError: if a circuit has no story, one of another circuit, or one of nodes that it has not.
      CheckpointError: if a story cannot be read.
      ConfigError: for a token that is not known, or positions that no test prompt has.
      TaskError: if a task has changed since, or has too few pairs.
      LockError: if another process measures the run's stories.
      UserError: if the workdir cannot be written.
    """
    told = {each.task.name: _read(run, each.circuit) for each in subjects}  # all, before any work
    check_writable(run.folder)
    bar = ProgressBar(subjects, desc="stories", disable=not is_primary())
    with locked(run.folder, LOCK), memory_told(AUDITING):
        for subject in bar:
            name = subject.task.name
            bar.set_postfix(task=name)
            settings = _settings(config)
            if (told[name].measured or {}).get("settings") != settings:
                roles = _measurer(run, subject, config, told[name]).measure(told[name])
                measured = {"settings": settings, "roles": roles}
                told[name] = dataclasses.replace(told[name], measured=measured)
                told[name].save(run.folder / CIRCUITS / name)
    return told


def stories_table(stories: dict[str, Story]) -> list[dict[str, Any]]:
    """One row a story: its roles, and how many are confirmed."""
    return [
        {"task": task, "roles": len(story.roles), "confirmed": sum(story.confirmed or ())}
        for task, story in stories.items()
    ]


def _read(run: "Run", circuit: Circuit) -> Story:
    folder = run.folder / CIRCUITS / circuit.task
    if not has_story(folder):
        raise CircuitError(
            f"the circuit of {circuit.task} has no story; write {folder / FILE} "
            f'of circuit {circuit.digest!r} (docs/method.md, "Stories")'
        )
    return read_story(folder / FILE, circuit)


def _settings(config: AuditConfig) -> dict[str, Any]:
    """What decides the figures of a story beside what is told."""
    return {
        "pairs": config.pairs,
        "seed": config.seed,
        "confidence": config.confidence,
        "random_sets": DRAWS,
        "random_pairs": RANDOM_PAIRS,
    }


def _measurer(run: "Run", subject: AuditSubject, config: AuditConfig, story: Story) -> StoryMeasurer:
    prune, circuit, model = subject.prune, subject.circuit, run.model
    seed = prune.seed + 1 + config.seed  # as the audit draws its pairs
    test = judging_pairs(run, subject.task, circuit, prune, config.pairs, seed).test
    if circuit.ablation == "zero" and _uses_means(story):  # its own means are zeros
        windows = reference_windows(run.corpus, run.whole_config, prune)
        means = reference_activations(model, windows, "mean", FINAL in circuit.means)
        circuit = dataclasses.replace(circuit, means={site: np.asarray(mean) for site, mean in means.items()})
    return StoryMeasurer(
        circuit,
        model,
        pair_batch(test, model.config.n_ctx),
        ClusteredIntervals(test.template, config.confidence),
        Words(run.tokenizer, model.config.vocab_size),
        config.seed,
    )


def _uses_means(story: Story) -> bool:
    """Whether a claim sets a node to its mean."""
    return any(None in claim.values for role in story.roles for claim in role.claims)
