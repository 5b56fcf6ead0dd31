"""How an error is said."""

import pytest
from absl import flags
from absl.testing import flagsaver

from circuits_jax.commands import launching, path_flags
from circuits_jax.commands.launching import one_line
from circuits_jax.storage.errors import ConfigError


@pytest.mark.parametrize(
    ("message", "line"),
    [
        ("/a  b/c\t d is not there", "/a  b/c\t d is not there"),
        ("first\n    second\r\n\n third\u2028fourth\n", "first second third fourth"),
        ("", ""),
    ],
)
def test_it_is_one_line_in_which_a_path_is_as_it_is(message, line):
    assert one_line(message) == line


@pytest.mark.parametrize("name", ["model", "store", "out"])
def test_a_flag_without_a_value_is_refused_and_not_passed_over(name):
    with flagsaver.flagsaver():
        launching.define_model()
        launching.define_store()
        launching.define_out()
        try:
            flags.FLAGS(["command", "--workdir=a"])
            path_flags.refuse_empty()
            flags.FLAGS(["command", f"--{name}="])
            with pytest.raises(ConfigError, match=f"--{name} is empty; give it a value"):
                path_flags.refuse_empty()
        finally:
            for each in ("workdir", "model", "store", "out"):
                delattr(flags.FLAGS, each)
