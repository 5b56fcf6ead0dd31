"""How an error is said."""

import pytest

from circuits_jax.commands.launching import one_line


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
