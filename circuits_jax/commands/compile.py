"""Compiles what a run would execute for TPUs that are not at hand, and tells whether it fits.

    python -m circuits_jax compile --config=paper_8x1024 --topology=v5e:4x4

Per chip: memory, arithmetic and traffic with the time that each takes at the chip's peak, what chips send
each other, and whose traffic it is.  Takes minutes; nothing is executed and no TPU is needed, but libtpu is
(pip install 'circuits_jax[tpu-compile]').  Exit code 0 if it fits, 3 if not.
"""

import sys

import jax
from absl import flags

from circuits_jax.commands import setting_flags
from circuits_jax.config import Config
from circuits_jax.runs import compile_tables
from circuits_jax.runs.compile import WHATS, compile_for
from circuits_jax.runs.ways_out import WayOut, with_settings
from circuits_jax.storage.errors import ConfigError, UserError
from circuits_jax.storage.files import write_json
from circuits_jax.storage.paths import as_path
from circuits_jax.training.compiling.report import CompileReport
from circuits_jax.training.compiling.topologies import Slice, find_slice

DOES_NOT_FIT = 3


def define_flags() -> None:
    """The flags of this command."""
    setting_flags.define_config()
    flags.DEFINE_string(
        "topology", "v5e:1x1", "The slice: v5e:4x4, v6e:1x1, v4:2x2x4, ..., or a cloud's name, v5litepod-16."
    )
    flags.DEFINE_integer("num_slices", 1, "Slices, joined by the data center's network.")
    flags.DEFINE_enum("what", "train", WHATS, "The program.")
    flags.DEFINE_string("json", None, "File for the figures.")
    flags.DEFINE_bool(
        "suggest",
        False,
        "Where a training step does not fit, compile the ways out too, which takes as long again for each.",
    )


def main() -> None:
    """The command."""
    given = flags.FLAGS
    if given.suggest and given.what != "train":
        raise ConfigError(f"--suggest knows ways out of a training step, and none of --what={given.what}")
    config, slices = setting_flags.read_config(), find_slice(given.topology, given.num_slices)
    report = compile_for(config, slices, given.what)
    print(compile_tables.describe(report))
    figures = report.to_json()
    if not report.fits and given.what == "train":
        ways = compile_tables.explain(config, report)
        figures["ways_out"] = [{"settings": dict(way.settings), "bytes": way.bytes} for way in ways]
        if given.suggest:
            figures["suggested"] = [_tried(config, slices, way) for way in ways]
    if given.json is not None:
        _write(given.json, figures)
    if not report.fits:
        sys.exit(DOES_NOT_FIT)


def _tried(config: Config, slices: Slice, way: WayOut) -> dict[str, object]:
    """A way out, compiled; one that cannot be is told, and takes the others nothing."""
    settings = dict(way.settings)
    try:
        report: CompileReport = compile_for(with_settings(config, way.settings), slices)
    except (UserError, jax.errors.JaxRuntimeError) as error:
        why = " ".join(str(error).split())[:300]
        print(f"{way}: it does not compile: {why}")
        return {"settings": settings, "fits": False, "error": why}
    print(f"{way}: {report.sentence()}")
    return {"settings": settings, **report.to_json()}


def _write(name: str, figures: dict[str, object]) -> None:
    try:
        write_json(as_path(name), figures)
    except OSError as error:
        raise UserError(
            f"--json={name} cannot be written: {error.strerror or error}; name another file"
        ) from error
