"""Turns a released checkpoint into a workdir, on which prune, tasks, audit and view then run.

    python -m circuits_jax import_model --source=path/to/csp_yolo1 --workdir=runs/yolo1
    python -m circuits_jax import_model --workdir=runs/yolo1 --viz=viz_data.pt --viz_task=single_double_quote

`--source` is a folder, a file, hf:owner/name[@revision], or a URL; `--tokenizer` a folder with encoder.json
and vocab.bpe, if they do not lie beside the weights.  `--viz` takes in a published circuit of that model (a
file, hf:owner/name[@revision]/path/to/file or a URL) for view, audit, intervene and export.  What it removes
is held at the means published with it (mean_baseline_pretrain.pt in its folder or one above it, or the file
that `--means` names), else at means over the workdir's corpus.
"""

import shlex

from absl import flags

from circuits_jax.commands import launching
from circuits_jax.runs.importing import import_circuit, import_model
from circuits_jax.runs.opening import load_workdir
from circuits_jax.storage.errors import ConfigError
from circuits_jax.storage.paths import as_path
from circuits_jax.tasks import get_task


def define_flags() -> None:
    """The flags of this command."""
    launching.define_workdir()
    launching.define_store()
    flags.DEFINE_string("source", None, "The checkpoint.")
    flags.DEFINE_string("tokenizer", None, "Folder of the tokenizer's files.")
    flags.DEFINE_bool("strict", True, "Refuse unknown settings and surplus tensors.")
    flags.DEFINE_string("viz", None, "A published circuit, viz_data.pt: a file, or where to fetch it.")
    flags.DEFINE_string("means", None, "File of what the circuit's removed nodes are held at.")
    flags.DEFINE_string("viz_task", None, "The task that it was cut for, which the file does not say.")


def main() -> None:
    """The command."""
    given, workdir = flags.FLAGS, launching.workdir()
    if not given.source and not given.viz:
        raise ConfigError(
            "give --source: a folder or file of a checkpoint, hf:owner/name, or a URL; or a circuit, --viz"
        )
    launching.refuse_without("source", "tokenizer")
    launching.refuse_without("viz", "means", "store")
    if bool(given.viz) != bool(given.viz_task):
        raise ConfigError("give --viz and --viz_task together: a published circuit and its task")
    if given.source:
        import_model(given.source, workdir, given.tokenizer, given.strict)
        print(f"{workdir} is ready: python -m circuits_jax prune --workdir={shlex.quote(str(workdir))}")
    if given.viz:
        means = None if given.means is None else as_path(given.means)
        task, run = get_task(given.viz_task), load_workdir(workdir, launching.store())
        folder = import_circuit(given.viz, task, run, given.strict, means)
        print(f"{folder} is ready: python -m circuits_jax view {shlex.quote(str(workdir))}")
