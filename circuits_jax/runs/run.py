"""A run: a model with, where it has one, the workdir it was trained in and the corpus it was trained on."""

import dataclasses
import functools
import html
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from circuits_jax.circuits.circuit import MANIFEST, Circuit, load_circuit
from circuits_jax.circuits.readings.records import ReadingsReport
from circuits_jax.circuits.readings.rules import Rules
from circuits_jax.circuits.stories.story import Story
from circuits_jax.config import DEFAULT_CONTROLS, Config, PruneConfig
from circuits_jax.config.checks import check_positive
from circuits_jax.data.corpus import Corpus
from circuits_jax.model.model import Model
from circuits_jax.model.tokenizer import Tokenizer
from circuits_jax.runs import auditing, pages, pruning, readings, scoring, stories
from circuits_jax.runs.auditing import AuditReport
from circuits_jax.runs.corpora import open_corpus
from circuits_jax.runs.pages import Page
from circuits_jax.storage.errors import ConfigError, check_kind
from circuits_jax.storage.filenames import CIRCUITS
from circuits_jax.storage.paths import as_path
from circuits_jax.storage.surroundings import settled
from circuits_jax.tasks import Task


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Run:
    """What `train` and `load` give.

    Attributes:
      model: The model.
      workdir: The folder of the run; None for a model from elsewhere.
      config: The whole configuration; None for a model from elsewhere.
      prepared: The corpus, if it has been prepared already.
    """

    model: Model
    workdir: Path | None = None
    config: Config | None = None
    prepared: Corpus | None = dataclasses.field(default=None, compare=False)

    @property
    def name(self) -> str:
        """What people call it: the name of its folder."""
        if self.workdir is None:
            return self.model.name
        return as_path(self.workdir).resolve().name  # that of ".." is not its own

    @property
    def folder(self) -> Path:
        """The workdir.

        Raises:
          ConfigError: if there is none.
        """
        if self.workdir is None:
            raise ConfigError(
                f"{self.model.name} has no workdir, where results would be kept; make one of it: "
                f"python -m circuits_jax import_model --source={shlex.quote(self.model.name)} --workdir=DIR"
            )
        return self.workdir

    @property
    def whole_config(self) -> Config:
        """The configuration.

        Raises:
          ConfigError: if there is none.
        """
        if self.config is None:
            raise ConfigError(f"{self.model.name} has no configuration of a run; open a workdir")
        return self.config

    @property
    def tokenizer(self) -> Tokenizer:
        """The model's tokenizer.

        Raises:
          ConfigError: if there is none.
        """
        if self.model.tokenizer is None:
            raise ConfigError(f"no tokenizer lies beside {self.model.name}; put its files there")
        return self.model.tokenizer

    @functools.cached_property
    def corpus(self) -> Corpus:
        """The corpus, read or found ready in the workdir.

        Raises:
          ConfigError: for a model from elsewhere, which has none.
        """
        if self.prepared is not None:
            return self.prepared
        if self.config is None or self.workdir is None:
            raise ConfigError(
                f"{self.model.name} has no corpus, over which means are taken; make a workdir of it: "
                f"python -m circuits_jax import_model --source={shlex.quote(self.model.name)} --workdir=DIR"
            )
        return open_corpus(self.config, self.workdir)

    @property
    def circuits(self) -> list[Circuit]:
        """The circuits that were cut so far, by the names of their folders.

        Raises:
          CircuitError: if one cannot be read.
        """
        return [load_circuit(folder) for folder in self.circuit_folders]

    @property
    def circuit_folders(self) -> list[Path]:
        """Their folders."""
        if self.workdir is None:
            return []
        return sorted(path.parent for path in self.workdir.glob(f"{CIRCUITS}/*/{MANIFEST}"))

    @settled
    def score(
        self, task: Task, split: str = "test", circuit: Circuit | None = None, pairs: int | None = None
    ) -> dict[str, float]:
        """How well the model does on a task, or with `circuit` the circuit alone.

        Args:
          task: Of `TASKS`, or a `load_task`.
          split: "test", or "select": the pairs that pruning's choices are made by.
          circuit: Judged in place of the full model.
          pairs: How many pairs; by default 128, or those that the circuit's own figures are of.

        Returns:
          {"loss", "accuracy", "bigram": the accuracy of the bigram table alone, where there is one}, of a
          circuit also {"calibrated_loss", "calibrated_accuracy"}.

        Raises:
          TaskError: if the task cannot be built under the model's tokenizer.
          ConfigError: for another split, or a model without a tokenizer.
          CircuitError: for a circuit of another model, or one whose removed nodes take other prompts' values.
        """
        check_task(task)
        if circuit is not None:
            check_circuit(circuit)
        if pairs is not None:
            check_kind("the number of pairs", pairs, int, "a whole number")
            check_positive("the number of pairs", pairs)
        return scoring.score(self, task, split, circuit, pairs)

    @settled
    def prune(
        self, task: Task, allow_unlearned: bool = False, settings: PruneConfig | None = None
    ) -> Circuit:
        """Cuts the circuit of a task out of the model, and saves it with the run.

        Args:
          task: Of `TASKS`, or a `load_task`.
          allow_unlearned: Whether to prune although the model knows nothing of the task.
          settings: How to prune; by default as the run's configuration says.

        Raises:
          TaskError: if the model knows nothing of the task, or it cannot be built under its tokenizer.
          ConfigError: for a run without a workdir or a corpus.
        """
        check_task(task)
        if settings is not None:
            check_kind("what says how to prune", settings, PruneConfig, "a cj.PruneConfig")
        return pruning.prune_task(self, task, settings or self.whole_config.prune, allow_unlearned)

    @settled
    def audit(self, circuit: Circuit, controls: str | bool = DEFAULT_CONTROLS) -> AuditReport:
        """Is the circuit what the model really uses?  (docs/method.md, "Audit")

        Args:
          circuit: Of this run, saved in its workdir.
          controls: What the circuit's size is compared with, most of the time it takes: "none", "quick" (one
            draw of each kind, minutes) or "full" (enough for a verdict of "faithful"). True is "quick", False
            "none".

        Raises:
          CircuitError: for a circuit of another model.
          TaskError: if its task has changed since, has too few pairs, or (with controls) answers that vary.
          ConfigError: for an unknown choice of controls, or a run without a workdir or a corpus.
        """
        check_circuit(circuit)
        return auditing.audit_circuit(self, circuit, controls)

    @settled
    def readings(self, circuit: Circuit, rules: Rules | str | Path | None = None) -> ReadingsReport:
        """Which edges of the circuit does a rule on tokens tell?  (docs/method.md, "Readings")

        Args:
          circuit: Of this run, saved in its workdir.
          rules: Readings of your own, for some edges or all: {"SOURCE -> TARGET": token ids, or texts}; a
            JSON file of such; or a function of such a name and the token ids of one prompt, int [T], that
            gives bool [T], or None for an edge of which it says nothing.  Other edges have their default one.

        Raises:
          CircuitError: for a circuit of another model, or an edge that it has not.
          TaskError: if its task has changed since, or has too few pairs.
          ConfigError: for a run without a workdir or a corpus, a token that is not known, or a reading that
            selects nothing.
        """
        check_circuit(circuit)
        return readings.read_circuit_edges(self, circuit, rules)

    @settled
    def story(self, circuit: Circuit) -> Story:
        """Is the story of the circuit true?  (docs/method.md, "Stories")

        Args:
          circuit: Of this run, saved in its workdir, with a `story.json` beside it.

        Returns:
          The story with the figures of its claims, which are written into its file.

        Raises:
          CircuitError: for a circuit of another model or without a story, or a story of another circuit or
            of nodes that it has not.
          CheckpointError: for a file that is no story.
          TaskError: if its task has changed since, or has too few pairs.
          ConfigError: for a run without a workdir or a corpus, a token that is not known, or positions that
            no test prompt has.
        """
        check_circuit(circuit)
        return stories.measure_story(self, circuit)

    @settled
    def page(self, circuit: Circuit | None = None) -> Page:
        """Draws a circuit, or by default all of them, as one page that opens anywhere.

        Returns:
          The page: a path, which shows itself in a notebook.

        Raises:
          CircuitError: if there are no circuits, or one is of another model.
          ConfigError: for a run without a workdir or a corpus.
        """
        if circuit is not None:
            check_circuit(circuit)
        return pages.draw(self, circuit)

    def __repr__(self) -> str:
        if self.workdir is None:
            return f"Run of {self.model!r}"
        count = len(self.circuit_folders)
        return f"Run({self.workdir}: {self.model!r}, {count} circuit{'' if count == 1 else 's'})"

    def _repr_html_(self) -> str:
        config = self.model.config
        rows: Mapping[str, Any] = {
            "model": f"{config.n_layer} layers of {config.d_model}, vocabulary {config.vocab_size}",
            "workdir": self.workdir or "none",
            "circuits": ", ".join(folder.name for folder in self.circuit_folders) or "none",
        }
        cells = "".join(
            f"<tr><th>{html.escape(name)}</th><td>{html.escape(str(value))}</td></tr>"
            for name, value in rows.items()
        )
        return f"<table><caption>Run {html.escape(self.name)}</caption>{cells}</table>"


def check_task(task: object) -> None:
    """Raises ConfigError for what is no task, such as its name."""
    check_kind("the task", task, Task, "cj.TASKS[NAME], or cj.load_task(FILE)")


def check_circuit(circuit: object) -> None:
    """Raises ConfigError for what is no circuit, such as its task's name."""
    check_kind("the circuit", circuit, Circuit, "one of run.circuits, or what run.prune gave")
