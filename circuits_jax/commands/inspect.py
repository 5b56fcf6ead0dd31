"""What a model is made of: configuration, nonzero weights, dead units, and what a token's embedding says.

    python -m circuits_jax inspect --model=runs/quickstart [--token='"']

`--token` takes a piece of text that is one token, or an id (`#5` where the digit is itself a piece).
"""

from absl import flags

from circuits_jax.commands import launching
from circuits_jax.runs.inspection import inspect_model, inspect_token
from circuits_jax.storage.filenames import INSPECT


def define_flags() -> None:
    """The flags of this command."""
    launching.define_model()
    launching.define_store()
    flags.DEFINE_string("token", None, "Shows this token's embedding.")
    flags.DEFINE_integer("channels", 16, "Channels of it to show, the largest first.", lower_bound=1)
    flags.DEFINE_integer("others", 8, "Tokens to show of each channel, the largest first.", lower_bound=1)
    flags.DEFINE_integer("windows", 64, "Validation windows on which units may fire.", lower_bound=1)
    launching.define_out()


def main() -> None:
    """The command."""
    given = flags.FLAGS
    launching.refuse_without("token", "channels", "others")
    run = launching.open_model()
    if given.token is not None:
        shown, token = inspect_token(run, given.token, given.channels, given.others)
    rows, summary = inspect_model(run, given.windows)
    if given.token is not None:
        rows, summary = shown, summary | token
    launching.report(rows, (run.workdir or launching.workdir()) / INSPECT, summary)
