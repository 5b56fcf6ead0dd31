"""What is printed comes at once, in any encoding, and outlives its reader."""

import os
import subprocess
import sys
import time

import pytest

from tests.experiments.command import ROOT

HEADER = """
import sys, time
from circuits_jax.storage.output import last_out, lost_output
last_out(); last_out()
"""


def python(code, **options):
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    environment |= options.pop("env", {})
    arguments = [sys.executable, "-c", HEADER + code]
    return subprocess.Popen(arguments, cwd=ROOT, env=environment, stderr=subprocess.PIPE, **options)


@pytest.mark.parametrize("shell", [{}, {"PYTHONUNBUFFERED": "1"}])
def test_a_reader_that_leaves_does_not_end_the_command(shell):
    process = python(
        "for line in range(100000): print(line)\nprint(lost_output(), file=sys.stderr)",
        stdout=subprocess.PIPE,
        env=shell,
    )
    assert process.stdout.readline() == b"0\n"
    process.stdout.close()
    assert process.stderr.read() == b"None\n" and process.wait(30) == 0


def test_a_full_disk_is_told():
    with open("/dev/full", "wb") as full:
        process = python("print(1)\nprint(lost_output(), file=sys.stderr)", stdout=full)
    assert process.stderr.read() == b"No space left on device\n" and process.wait(30) == 0


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_what_an_encoding_lacks_is_escaped(encoding):
    process = python(
        r"print('d\xe9\u20ac\udcff')", stdout=subprocess.PIPE, env={"PYTHONIOENCODING": encoding}
    )
    expected = "d\xe9\u20ac\udcff\n".encode(encoding, "backslashreplace")
    assert process.communicate(timeout=30) == (expected, b"")


def test_a_line_is_there_when_it_was_said():
    process = python("print('now')\ntime.sleep(60)", stdout=subprocess.PIPE)
    began = time.monotonic()
    assert process.stdout.readline() == b"now\n" and time.monotonic() - began < 30
    process.kill()
    process.communicate()


def test_closed_streams_are_none_of_a_command_s_business():
    line = 'exec "$0" -c "$1" >&- 2>&-'
    code = HEADER + "print(1)\nprint(2, file=sys.stderr)\nsys.exit(lost_output() is not None)"
    assert subprocess.run(["sh", "-c", line, sys.executable, code], cwd=ROOT, timeout=60).returncode == 0
