"""Asked to stop by any of the signals: where the program is, or when what it holds is whole."""

import importlib
import os
import runpy
import signal
import subprocess
import sys
import textwrap
import time

import pytest

from circuits_jax import __main__ as program
from circuits_jax.storage import stopping
from circuits_jax.storage.errors import Stopped

NAMES = ["SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1", "SIGUSR2"]


@pytest.fixture(autouse=True)
def _no_signal_is_ignored():
    """As in a terminal: under nohup SIGHUP would be ignored, and stay so."""
    before = {name: signal.getsignal(getattr(signal, name)) for name in NAMES}
    for name, handler in before.items():
        if handler == signal.SIG_IGN:
            signal.signal(getattr(signal, name), signal.SIG_DFL)
    yield
    for name, handler in before.items():
        signal.signal(getattr(signal, name), handler)


@pytest.mark.parametrize("name", NAMES)
def test_a_signal_raises_where_the_program_is_and_handlers_come_back(name):
    number = getattr(signal, name)
    before = signal.getsignal(number)
    with pytest.raises(Stopped, match=rf"asked to stop \({name}\)") as caught, stopping.watched():
        os.kill(os.getpid(), number)
        pytest.fail("the signal raised nothing")
    assert caught.value.code == 128 + number
    assert signal.getsignal(number) == before and not stopping.asked()


def test_what_is_held_becomes_whole_first():
    done = []
    with stopping.watched():
        with stopping.held(), stopping.held():
            os.kill(os.getpid(), signal.SIGTERM)
            done.append("whole")
        assert stopping.asked() == signal.SIGTERM  # a library's caller decides what that means
    assert done == ["whole"]


def test_what_a_garbage_collectors_callback_swallows_is_raised_anew(capsys):
    class Dying:
        def __del__(self):
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.01)  # the handler runs here, where no exception leaves

    done = []
    with pytest.raises(Stopped, match="SIGINT"), stopping.watched():
        Dying()
        for _ in range(1000):
            time.sleep(0.001)
        done.append("went on")
    assert not done and capsys.readouterr().err == ""


def test_a_second_interrupt_of_a_library_is_pythons_own():
    with pytest.raises(KeyboardInterrupt) as caught, stopping.watched(), stopping.held():
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGTERM)  # no second Ctrl-C
        os.kill(os.getpid(), signal.SIGINT)
    assert not isinstance(caught.value, Stopped)


def test_signals_ignored_before_stay_ignored():
    """As `nohup` has SIGHUP."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with stopping.watched():
            os.kill(os.getpid(), signal.SIGHUP)
            assert not stopping.asked()
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_signal_while_a_command_is_imported_stops_it_afterwards(monkeypatch):
    imported = []

    def slow_import(name):
        os.kill(os.getpid(), signal.SIGTERM)
        imported.append(name)

    monkeypatch.setattr(importlib, "import_module", slow_import)
    for name in ("last_out", "settle_shell"):
        monkeypatch.setattr(program, name, lambda: None)
    with pytest.raises(Stopped, match="SIGTERM"), stopping.watched(ends_process=True):
        program._run("prune", [])
    assert imported == ["jax", "circuits_jax.commands.prune", "circuits_jax.commands.launching"]


@pytest.mark.parametrize(("before", "after"), [("default_int_handler", "SIG_DFL"), ("SIG_IGN", "SIG_IGN")])
def test_an_interrupt_before_a_command_begins_prints_no_traceback(monkeypatch, before, after):
    """And one that is ignored, as a shell has it for what runs beside it, stays so."""
    monkeypatch.setattr(sys, "argv", ["circuits_jax", "--help"])
    monkeypatch.setattr("circuits_jax.storage.output.last_out", lambda: None)
    signal.signal(signal.SIGINT, getattr(signal, before))
    runpy.run_path(program.__file__, run_name="__main__")
    assert signal.getsignal(signal.SIGINT) == getattr(signal, after)


def command(body):
    """Runs `body` as commands run, in a process of its own: (exit code, its lines)."""
    script = textwrap.dedent(
        """
        import os, signal, sys, threading, time
        from circuits_jax.storage import stopping
        from circuits_jax.storage.errors import Stopped
        me = os.getpid()
        def later(*numbers):
            def send():
                for number in numbers:
                    time.sleep(0.5)  # the main thread is in the body by then
                    os.kill(me, number)
            threading.Thread(target=send).start()
        stopping.PATIENCE_SECONDS = 0.4
        with stopping.watched(ends_process=True):
            try:
        {body}
            except Stopped as stopped:
                stopping.end(str(stopped), stopped.code)
        """
    ).format(body=textwrap.indent(textwrap.dedent(body), " " * 8))
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    return run.returncode, (run.stdout + run.stderr).split("\n")[:-1]


def test_commands_end_whatever_holds_them_up():
    """A library that lets no exception through; a second Ctrl-C; a hold that ends."""
    stuck = "while time.time():\n    try:\n        time.sleep(9)\n    except BaseException:\n        pass"
    code, lines = command(f"later(signal.SIGUSR1)\n{stuck}")
    assert code == 128 + signal.SIGUSR1 and len(lines) == 2 and "asked to stop (SIGUSR1)" in lines[1]
    code, lines = command("later(signal.SIGINT, signal.SIGINT)\nwith stopping.held():\n    time.sleep(9)")
    assert code == 130 and lines[-1].startswith("ended at once (second Ctrl-C)")
    code, lines = command(
        "later(signal.SIGTERM)\nwith stopping.held():\n    time.sleep(1)\n    print('whole')\nprint('on')"
    )
    assert code == 143 and lines[0] == "whole" and "asked to stop (SIGTERM)" in lines[1] and len(lines) == 2


def test_two_threads_that_end_a_process_say_it_once():
    """As a second Ctrl-C has it: the main thread's handler and the thread that oversees come together."""
    code, lines = command(
        """
        class Slow:
            def write(self, text):
                time.sleep(0.3)
                os.write(1, text.encode())
            def flush(self):
                time.sleep(0.3)
        sys.stdout = Slow()
        threading.Thread(target=stopping.end, args=("the end", 7)).start()
        stopping.end("the end", 7)
        """
    )
    assert (code, lines) == (7, ["the end"])
