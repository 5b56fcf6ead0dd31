"""Does pruning find circuits that no one here wrote?  Precision and recall on programs that tracr compiled.

    python -m circuits_jax tracr --workdir=runs/tracr

Killed, it goes on with the first program that is not done.  The workdir gets `tracr.json`.  The compiled
programs come with the library; --compile makes them anew, with the extra `tracr`.
"""

from absl import flags

from circuits_jax.circuits.baselines import ScoreSettings
from circuits_jax.circuits.rasp import PROGRAMS
from circuits_jax.commands import launching, setting_flags
from circuits_jax.runs.tracr import benchmark, compiled_anew
from circuits_jax.storage import filenames
from circuits_jax.storage.errors import ConfigError
from circuits_jax.storage.files import check_writable, write_json
from circuits_jax.storage.tables import show_table


def define_flags() -> None:
    """The flags of this command."""
    launching.define_workdir()
    setting_flags.define_config("tracr")
    flags.DEFINE_list("programs", list(PROGRAMS), "Which programs.")
    flags.DEFINE_bool("compile", False, "Compile the programs anew, into the workdir.")


def main() -> None:
    """The command."""
    given, workdir = flags.FLAGS, launching.workdir()
    unknown = [name for name in given.programs if name not in PROGRAMS]
    if unknown or not given.programs:
        raise ConfigError(
            f"there is no program {', '.join(unknown) or 'in --programs'}; choose of {', '.join(PROGRAMS)}"
        )
    check_writable(workdir)
    folder = workdir / filenames.TRACR_FOLDER
    compiled = compiled_anew(given.programs, folder) if given.compile else None
    config = setting_flags.read_config()
    settings = ScoreSettings.of(config.audit)
    rows, baselines = benchmark(given.programs, config.prune, settings, folder, compiled)
    write_json(workdir / filenames.TRACR, {"rows": rows, "baselines": baselines})
    print(show_table(rows))
    print()
    print(show_table(baselines))
