"""Measures the sharded trainer on the accelerators at hand, and checks the projection on them.

    python -m circuits_jax device_check --config=paper_8x1024 --workdir=runs/check

Tokens a second, MFU, and the share of a step that the projection and AbsTopK take, on random tokens; then
whether the projection of a sharded parameter is that of a whole one, bit for bit.  Takes minutes on one GPU.
"""

from absl import flags

from circuits_jax.commands import launching, setting_flags
from circuits_jax.runs.device_check import check_devices, described_plan
from circuits_jax.storage.filenames import DEVICE_CHECK
from circuits_jax.storage.files import check_writable


def define_flags() -> None:
    """The flags of this command."""
    launching.define_workdir()
    setting_flags.define_config()
    launching.define_processes()
    flags.DEFINE_integer("steps", 10, "Steps that are timed, after two that are not.", lower_bound=1)


def main() -> None:
    """The command."""
    config = setting_flags.read_config()
    check_writable(launching.workdir())
    print(described_plan(config))
    row = check_devices(config, flags.FLAGS.steps)
    launching.report([row], launching.workdir() / DEVICE_CHECK)
