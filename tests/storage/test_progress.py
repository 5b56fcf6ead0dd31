"""A bar on a terminal; in a log whole lines, seldom, at once."""

import io
import re

import pytest

from circuits_jax.storage import progress
from circuits_jax.storage.progress import LINE_SECONDS, ProgressBar


class Log(io.StringIO):
    """A file that counts how often it was flushed, and may be a terminal."""

    flushed, terminal = 0, False

    def flush(self):
        self.flushed += 1

    def isatty(self):
        return self.terminal


@pytest.fixture
def clock(monkeypatch):
    """Time that goes on by `clock(seconds)`."""
    now = [1000.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(ProgressBar, "_said", float("-inf"))

    def pass_by(seconds):
        now[0] += seconds

    return pass_by


def test_lines_are_whole_seldom_and_said_at_once(clock):
    log = Log()
    with ProgressBar(total=1000, desc="train", unit="step", file=log, mininterval=0) as bar:
        for step in range(1000):
            bar.update()
            if step >= 4:
                bar.set_postfix({"loss": f"{step}.5", "tokens/s": "7"})
            clock(0.1)
    lines = log.getvalue().splitlines(keepends=True)
    assert len(lines) == 10 and log.flushed >= 10  # 100 seconds
    for line in lines:
        assert re.fullmatch(
            r"train +\d+ of 1000 step, loss=\d+\.5, tokens/s=7, .*step/s, [\d:]+ gone, [\d:?]+ to go\n", line
        ), line
    assert lines[0].startswith("train 5 of 1000")  # the first that had something to say


def test_bars_one_after_another_share_the_ten_seconds(clock):
    log = Log()
    for _ in range(30):
        with ProgressBar(total=1, desc="page", file=log, mininterval=0) as bar:
            bar.set_postfix({"task": "quotes"})
            bar.update()
        clock(1)
    assert len(log.getvalue().splitlines()) == 30 / LINE_SECONDS


def test_other_lines_between_them_are_left_alone(clock, capsys):
    log = Log()
    with ProgressBar(total=10, file=log, mininterval=0) as bar:
        bar.set_postfix({"loss": "1"})
        bar.update()
        bar.write("pace")
    assert capsys.readouterr().out == "pace\n" and "\r" not in log.getvalue()
    assert log.getvalue().count("\n") == 1


def test_nothing_is_said_where_it_is_disabled(clock):
    log = Log()
    with ProgressBar(total=10, file=log, disable=True) as bar:
        bar.update()
    assert log.getvalue() == ""


def test_a_terminal_has_a_bar():
    log = Log()
    log.terminal = True
    with ProgressBar(total=10, file=log, mininterval=0, ncols=60) as bar:
        bar.update(10)
    assert "100%|" in log.getvalue() and "\r" in log.getvalue()
