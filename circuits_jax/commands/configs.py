"""Prints the figures of every paper-sized configuration: the ones their docstrings quote.

python -m circuits_jax configs
"""

from circuits_jax.runs.configurations import sizes_table


def define_flags() -> None:
    """The flags of this command."""
    # none


def main() -> None:
    """The command."""
    print(sizes_table())
