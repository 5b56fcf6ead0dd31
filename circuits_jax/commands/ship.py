"""Makes the folder of the model that comes with the library out of a finished run, for its developers.

    python -m circuits_jax ship --workdir=runs/long --out=circuits_jax/shipped
    python -m circuits_jax ship --stories --audits --workdir=runs/shipped --out=circuits_jax/shipped

The run must have trained to its end; its circuits, audits, stories, readings and what `exhaust` found come
along.  The windows of its corpus, other people's code, are left out: evidence will be gathered on generated
programs.  The folder may have 4 MB at most.  `MODEL_CARD.md` tells every figure, and the same run gives the
same bytes.  With --stories, --audits or both only these are taken, from a workdir that the shipped model
made.
"""

from absl import flags

from circuits_jax.commands import launching
from circuits_jax.runs.opening import load_workdir
from circuits_jax.runs.shipping import ship, ship_told
from circuits_jax.storage.errors import ConfigError
from circuits_jax.storage.paths import as_path


def define_flags() -> None:
    """The flags of this command."""
    launching.define_workdir()
    launching.define_store()
    for what in ("stories", "audits"):
        flags.DEFINE_bool(what, False, f"Only put the {what} of a workdir of the shipped model into --out.")
    flags.DEFINE_string("out", None, "The folder that is made; what it held before is replaced.")


def main() -> None:
    """The command."""
    if not flags.FLAGS.out:
        raise ConfigError("give --out: the folder that is made, in a checkout circuits_jax/shipped")
    out = as_path(flags.FLAGS.out)
    stories, audits = flags.FLAGS.stories, flags.FLAGS.audits
    if stories or audits:
        made = ship_told(launching.workdir(), out, stories, audits)
    else:
        made = ship(load_workdir(launching.workdir(), launching.store()), out)
    launching.report(
        [{"file": name, "bytes": size} for name, size in made.sizes.items()],
        None,
        {"folder": str(made.folder), "bytes": sum(made.sizes.values())},
    )
