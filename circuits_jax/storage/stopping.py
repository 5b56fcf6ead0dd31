"""Being asked to stop: Ctrl-C, a closed terminal, a scheduler whose time is up.

Within `watched` the signals of SIGNALS raise `Stopped` where the program is, or, within `held`, when what is
under way there is whole.  Files are written aside and multi-part ones within `held`, so that whatever was
finished is kept.  A second Ctrl-C ends at once.
"""

import _thread
import contextlib
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any, NoReturn

from circuits_jax.storage.errors import Stopped

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)
# How long a program that was asked to stop, and holds nothing, may take before it is ended from outside: a
# library that compiles, or waits for a device, lets no exception through.
PATIENCE_SECONDS = 8.0
_LOOK_SECONDS, _AGAIN_SECONDS, _LAST_WORDS_SECONDS = 0.1, 0.02, 2.0


class _Watch:
    """What one `watched` block knows; signals reach it in the main thread alone."""

    def __init__(self, ends_process: bool):
        self.ends_process = ends_process
        self.asked = 0  # the first signal's number
        self.interrupts = 0  # Ctrl-C, seen by Python
        self.holds = 0
        self.swallowed = False  # the exception was raised where Python lets none through
        self.free_since: float | None = None  # since when an asked program holds nothing
        self.terminals = [fd for fd in (1, 2) if os.isatty(fd)]
        self.before: dict[int, Any] = {}


_watch: _Watch | None = None
_farewells: list[Callable[[], None]] = []
_ending = threading.RLock()


@contextlib.contextmanager
def watched(ends_process: bool = False) -> Iterator[None]:
    """Within the block, SIGNALS stop the program as the module says; blocks inside another add nothing.

    Signals that are ignored when the block begins, as `nohup` has it, stay so.  Outside of the main thread,
    where Python allows no handlers, the block does nothing.

    Args:
      ends_process: Whether the program is a command, which may be ended from outside where it does not end by
        itself, and by a second Ctrl-C; else that raises KeyboardInterrupt.

    Raises:
      Stopped: when asked to, and nothing is held.
    """
    global _watch
    if _watch is not None or threading.current_thread() is not threading.main_thread():
        yield
        return
    _watch = watch = _Watch(ends_process)
    try:
        with _overseen(watch) if ends_process else contextlib.nullcontext():
            for number in SIGNALS:
                if signal.getsignal(number) not in (signal.SIG_IGN, None):
                    watch.before[number] = signal.signal(number, _receive)
            with _unswallowed(watch):
                yield
    finally:
        for signum, handler in watch.before.items():
            signal.signal(signum, handler)
        _watch = None


@contextlib.contextmanager
def held(then_stop: bool = True) -> Iterator[None]:
    """Within the block a signal is kept in mind; what is under way becomes whole.

    Args:
      then_stop: Whether a command that was asked to stop does so at the end of the block.

    Raises:
      Stopped: at the end, if asked to stop within.
    """
    watch = _watch
    if watch is None or threading.current_thread() is not threading.main_thread():
        yield
        return
    watch.holds += 1
    try:
        yield
    finally:
        watch.holds -= 1
        if not watch.holds and watch.asked:
            watch.free_since = time.monotonic()
    if then_stop and watch.ends_process and not watch.holds and watch.asked:
        raise stopped(watch.asked)


def asked() -> int:
    """The number of the signal that asks this program to stop, 0 if none does."""
    return 0 if _watch is None else _watch.asked


def stopped(number: int, what: str = "; what was finished is kept, and the same command goes on") -> Stopped:
    """The exception that ends a program asked to stop by a signal; `what` follows its name."""
    return Stopped(f"asked to stop ({signal.Signals(number).name}){what}", 128 + number)


@contextlib.contextmanager
def farewell(say: Callable[[], None]) -> Iterator[None]:
    """Within the block, a process that is ended from outside calls `say` before."""
    _farewells.append(say)
    try:
        yield
    finally:
        _farewells.remove(say)


def end(message: str, code: int) -> NoReturn:
    """Prints `message` on a line and ends this process at once, whatever its other threads wait for."""
    # A second Ctrl-C reaches the main thread and the one that oversees it: the first to come speaks alone,
    # the other waits for the end.  A signal's handler within `end` is the same thread, and passes.
    _ending.acquire(timeout=_LAST_WORDS_SECONDS)
    for say in reversed(_farewells):
        with contextlib.suppress(Exception):  # whatever it is, this process ends
            say()
    with contextlib.suppress(OSError, ValueError):  # nobody may be there any more to read it
        print(f"{message}\n", end="", flush=True)  # one write: lines of two threads cannot mix
    with contextlib.suppress(OSError, ValueError):
        sys.stderr.flush()
    os._exit(code)


def _receive(number: int, frame: FrameType | None) -> None:
    del frame
    watch = _watch
    if watch is None:
        return
    if number == signal.SIGHUP:
        _let_go_of_terminals(watch)
    watch.interrupts += number == signal.SIGINT
    if watch.interrupts > 1:
        if watch.ends_process:
            _end_at_once()
        raise KeyboardInterrupt
    if watch.asked and not watch.swallowed:
        return
    watch.asked, watch.swallowed = watch.asked or number, False
    if not watch.holds:
        watch.free_since = time.monotonic()
        raise stopped(watch.asked)


@contextlib.contextmanager
def _unswallowed(watch: _Watch) -> Iterator[None]:
    """Within the block, `Stopped` is raised anew where it met a callback of the garbage collector or a
    `__del__`, out of which Python lets no exception.
    """
    before = sys.unraisablehook
    carrier = next((number for number in watch.before if number != signal.SIGINT), None)

    def report(unraisable: Any) -> None:
        if carrier is None or not isinstance(unraisable.exc_value, Stopped):
            before(unraisable)
            return
        watch.swallowed = True
        # As if that signal came, a little later: here it would meet this very function.
        threading.Timer(_AGAIN_SECONDS, _thread.interrupt_main, [signal.Signals(carrier)]).start()

    sys.unraisablehook = report
    try:
        yield
    finally:
        sys.unraisablehook = before


def _let_go_of_terminals(watch: _Watch) -> None:
    """Sends what would be written to a terminal that is gone to nowhere, where it is no error."""
    gone = [fd for fd in watch.terminals if not os.isatty(fd)]
    if gone:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        for fd in gone:
            os.dup2(nowhere, fd)
        os.close(nowhere)


def _end_at_once() -> NoReturn:
    end("\nended at once (second Ctrl-C); what was saved before is kept", 128 + signal.SIGINT)


@contextlib.contextmanager
def _overseen(watch: _Watch) -> Iterator[None]:
    """Within the block a thread learns of signals too, while the main thread is inside a library's call."""
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    before = signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    threading.Thread(target=_oversee, args=(watch, reader), daemon=True).start()
    try:
        yield
    finally:
        signal.set_wakeup_fd(before)
        os.close(writer)  # which ends the thread


def _oversee(watch: _Watch, reader: int) -> None:
    """Reads signals' numbers; ends the process that is asked twice, or does not end by itself."""
    interrupts = 0
    while numbers := os.read(reader, 64):
        interrupts += numbers.count(signal.SIGINT)
        if interrupts > 1 and signal.SIGINT in watch.before:
            _end_at_once()
        first = next((number for number in numbers if number in watch.before), None)
        if first is not None:
            threading.Thread(target=_end_in_time, args=(watch, first), daemon=True).start()
    os.close(reader)


def _end_in_time(watch: _Watch, number: int) -> None:
    """Ends the process when it has held nothing for PATIENCE_SECONDS since it was asked to stop."""
    began = time.monotonic()
    while _watch is watch:
        time.sleep(_LOOK_SECONDS)
        since = began if watch.free_since is None else watch.free_since
        if not watch.holds and time.monotonic() - since > PATIENCE_SECONDS:
            told = stopped(watch.asked or number)
            end(f"\n{told}", told.code)
