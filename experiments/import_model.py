"""Turns a released checkpoint into a workdir, on which prune, tasks, audit and view then run.

    python -m experiments.import_model --source=path/to/csp_yolo1 --workdir=runs/yolo1
    python -m experiments.import_model --workdir=runs/yolo1 --viz=viz_data.pt --viz_task=single_double_quote

`--source` is a folder, a file, hf:owner/name[@revision], or a URL; `--tokenizer` a folder with encoder.json
and vocab.bpe, if they do not lie beside the weights.  `--viz` takes in a published circuit of that model, for
view, audit, intervene and export; what it removes is held at means over the workdir's corpus.
"""

import dataclasses
from pathlib import Path

from absl import flags

from circuits_jax import released
from circuits_jax.errors import CircuitError, ConfigError
from circuits_jax.tasks import get_task
from experiments import common, models

_SOURCE = flags.DEFINE_string("source", None, "The checkpoint.")
_TOKENIZER = flags.DEFINE_string("tokenizer", None, "Folder of the tokenizer's files.")
_STRICT = flags.DEFINE_bool("strict", True, "Refuse unknown settings and surplus tensors.")
_VIZ = flags.DEFINE_string("viz", None, "A published circuit, viz_data.pt.")
_TASK = flags.DEFINE_string("viz_task", None, "The task that it was cut for, which the file does not say.")


def import_circuit(path: Path, task: str, workdir: Path, strict: bool = True) -> Path:
    """Writes the published circuit `path` among the circuits of `workdir`; returns its folder.

    Raises:
      UserError: if there is no such task, the file cannot be read, it is not of the workdir's model, or the
        workdir has a circuit of that task.
    """
    task = get_task(task).name
    folder = workdir / "circuits" / task
    if folder.exists():
        raise CircuitError(f"{folder} is there already; delete it, or name another --workdir")
    opened = models.open_model(workdir)
    if opened.run is None:
        raise ConfigError(f"{workdir} is no workdir; make one with --source")
    config, run = opened.run.config.model, opened.run
    model = released.Released(config, run.model, run.params, run.tokenizer, {})
    circuit = released.import_viz(path, task, model, strict=strict).circuit
    dataclasses.replace(circuit, means=models.corpus_means(opened), ablation="mean").save(folder)
    return folder


def main() -> None:
    """The command."""
    workdir = common.workdir()
    if not _SOURCE.value and not _VIZ.value:
        raise ConfigError(
            "give --source: a folder or file of a checkpoint, hf:owner/name, or a URL; or a circuit, --viz"
        )
    if bool(_VIZ.value) != bool(_TASK.value):
        raise ConfigError("give --viz and --viz_task together: a published circuit and its task")
    if _SOURCE.value:
        released.as_workdir(_SOURCE.value, workdir, _TOKENIZER.value, _STRICT.value)
        print(f"{workdir} is ready: python -m experiments.prune --workdir={workdir}")
    if _VIZ.value:
        folder = import_circuit(Path(_VIZ.value), _TASK.value, workdir, _STRICT.value)
        print(f"{folder} is ready: python -m experiments.view {workdir}")


if __name__ == "__main__":
    common.run(main)
