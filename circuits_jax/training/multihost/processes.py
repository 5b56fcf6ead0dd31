"""Several processes as one run: started, in agreement, and ended together."""

import contextlib
import hashlib
import json
import signal
import socket
import threading
import time
from collections.abc import Iterator, Mapping
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from jax.experimental import multihost_utils

from circuits_jax.storage import stopping
from circuits_jax.storage.errors import ConfigError, ProcessError, Stopped
from circuits_jax.training.multihost.watchdog import Watchdog, end_process, wait_for_verdict

_LONGEST_WAIT_MS = 6 * 3600 * 1000


def is_primary() -> bool:
    """Whether this is the process that writes files and talks."""
    return jax.process_index() == 0


def start(coordinator: str | None, count: int | None, index: int | None, timeout: int) -> None:
    """Joins the other processes of a run; must come before JAX is first used.

    Args:
      coordinator: "host:port" of process 0; None, as also for `count` and `index`, leaves it to what JAX
        finds out from its surroundings (TPU pods, SLURM, GKE, Open MPI).
      count: Processes in all.
      index: This one's number.
      timeout: Seconds to wait for the others.

    Raises:
      ConfigError: for values that cannot be used.
      ProcessError: if the others cannot be reached.  Where they do not come in time, the process ends with a
        line that says so.
    """
    if coordinator is not None:
        _check(coordinator, count, index)
        if index:  # JAX itself would end the process from C++
            _wait_for_port(coordinator, timeout)
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    if hasattr(jax.config, "jax_enable_preemption_service"):  # which takes SIGTERM for itself
        jax.config.update("jax_enable_preemption_service", False)
    jax.config.update("jax_enable_recoverability", True)  # the watchdog ends processes, not JAX from C++
    where = f"at {coordinator}" if coordinator else "where the surroundings say"
    # JAX would end the process from C++, with nothing that a person could read.
    alarm = threading.Timer(
        timeout,
        end_process,
        [
            f"the processes did not all meet {where} within {timeout} seconds; check that every one of them "
            "runs, with the same --coordinator and --processes"
        ],
    )
    alarm.daemon = True
    alarm.start()
    try:
        jax.distributed.initialize(
            coordinator,
            num_processes=count,
            process_id=index,
            initialization_timeout=timeout + 60,
            heartbeat_timeout_seconds=60,
        )
    except (RuntimeError, ValueError) as error:
        raise ProcessError(f"the processes cannot meet {where}: {_first_line(error)}") from error
    finally:
        alarm.cancel()
    if threading.current_thread() is threading.main_thread():  # JAX before 0.8 has no such switch
        signal.signal(signal.SIGTERM, signal.getsignal(signal.SIGTERM))  # as Python had it


@contextlib.contextmanager
def together(coordinator: str | None, count: int | None, index: int | None, timeout: int) -> Iterator[None]:
    """Within the block this process is one of several, as `start` has it, and all end when one of them is
    lost.

    An error leaves the block without a farewell, so that the others end too.
    """
    start(coordinator, count, index, timeout)
    watchdog = Watchdog(coordinator and coordinator.rpartition(":")[0].strip("[]"))
    in_peace = False
    try:
        with stopping.farewell(watchdog.stop):
            yield
        in_peace = True
    except Stopped as stopped:
        in_peace = stopped.agreed
        if not in_peace:
            watchdog.stop()
        raise
    except jax.errors.JaxRuntimeError as error:
        wait_for_verdict()  # which ends this process, if it was another one's end that broke an exchange
        raise ProcessError(f"process {jax.process_index()} cannot go on: {_first_line(error)}") from error
    finally:
        if in_peace:
            with stopping.held(then_stop=False):
                _part(watchdog)
        else:
            watchdog.abandon()


def _part(watchdog: Watchdog) -> None:
    """Ends JAX's connections in the order that is no failure to it: process 0, the server, last."""
    wait_for_all("end")
    if is_primary():
        watchdog.close()
        jax.distributed.shutdown()
    else:
        jax.distributed.shutdown()
        watchdog.close()


def fetch(tree: Any) -> Any:
    """A tree of arrays, wherever they lie, as numpy arrays on every process."""
    if jax.process_count() == 1:
        return jax.device_get(tree)
    return multihost_utils.process_allgather(tree, tiled=True)


def all_agree(here: bool) -> bool:
    """Whether something is so on every process."""
    return here if jax.process_count() == 1 else bool(multihost_utils.process_allgather(np.array(here)).all())


def agree(settings: Mapping[str, Any]) -> None:
    """Checks that all processes have the same settings (JSON values, nested by sections).

    Raises:
      ConfigError: on every process, naming the processes that differ from process 0 and the first
        differences.
    """
    if jax.process_count() == 1:
        return
    text = json.dumps(settings, sort_keys=True).encode()
    mine = np.frombuffer(hashlib.sha256(text).digest(), np.uint8)
    hashes = multihost_utils.process_allgather(mine)
    others = [index for index in range(len(hashes)) if not np.array_equal(hashes[index], hashes[0])]
    if not others:
        return
    texts = _gather_bytes(text)
    first, other = (flatten(json.loads(texts[index])) for index in (0, others[0]))
    names = [name for name in sorted(first.keys() | other.keys()) if first.get(name) != other.get(name)]
    what = "; ".join(
        f"{name} is {first.get(name)!r} in process 0, {other.get(name)!r} there" for name in names[:3]
    )
    raise ConfigError(
        f"process {', '.join(map(str, others))} of {len(hashes)} has other settings than process 0 ({what}); "
        "start all of them with the same command"
    )


@contextlib.contextmanager
def primary_first(what: str) -> Iterator[None]:
    """Process 0 runs the block first; the others then run it and find its files.

    Args:
      what: A name for the block, different from that of any other one.
    """
    if not is_primary():
        wait_for_all(what)
    yield
    if is_primary():
        wait_for_all(what)


def from_primary(text: str) -> str:
    """What process 0 says, on every process."""
    return text if jax.process_count() == 1 else _gather_bytes(text.encode())[0].decode()


def flatten(settings: Any, prefix: str = "") -> dict[str, Any]:
    """Nested mappings as one, names joined by dots."""
    if not isinstance(settings, Mapping):
        return {prefix: settings}
    flat = {}
    for name, value in settings.items():
        flat |= flatten(value, f"{prefix}.{name}" if prefix else name)
    return flat


def wait_for_all(what: str) -> None:
    """Returns when every process is here; `what` names this place, as no other is named."""
    if jax.process_count() > 1:  # not by a collective of devices, which may give up after a while
        ocp.multihost.get_barrier_sync_fn()(key=f"circuits_jax {what}", timeout_ms=_LONGEST_WAIT_MS)


def _gather_bytes(text: bytes) -> list[bytes]:
    """The bytes of every process."""
    lengths = multihost_utils.process_allgather(np.array(len(text), np.int32))
    padded = np.zeros(int(lengths.max()), np.uint8)
    padded[: len(text)] = np.frombuffer(text, np.uint8)
    everyone = multihost_utils.process_allgather(padded)
    return [bytes(row[:length]) for row, length in zip(everyone, lengths, strict=True)]


def _check(coordinator: str, count: int | None, index: int | None) -> None:
    host, _, port = coordinator.rpartition(":")
    if not host or not port.isdigit():
        raise ConfigError(f"--coordinator is {coordinator!r}; give host:port of process 0")
    if count is None or index is None or not 0 <= index < count:
        raise ConfigError(
            f"--coordinator needs --processes and --process, from 0 on; they are {count} and {index}"
        )


def _wait_for_port(coordinator: str, timeout: int) -> None:
    host, _, port = coordinator.rpartition(":")
    end = time.monotonic() + timeout
    while True:
        try:
            socket.create_connection((host.strip("[]"), int(port)), timeout=5).close()
            return
        except OSError as error:
            if time.monotonic() > end:
                raise ProcessError(
                    f"process 0 cannot be reached at {coordinator} within {timeout} seconds "
                    f"({error.strerror or error}); start it, or correct --coordinator"
                ) from error
        time.sleep(0.5)


def _first_line(error: BaseException) -> str:
    text = str(error).strip()
    return text.splitlines()[0][:200] if text else type(error).__name__
