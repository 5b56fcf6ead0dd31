"""Notices that a process of the run is gone, says so, and ends this one too.

Every process but process 0 holds a connection to process 0, over which both send a byte every few seconds.  A
process that is killed closes its connection at once, a machine that is gone falls silent; process 0 passes on
to the others who it was.  Collectives would wait for a lost process for ever, and JAX itself ends a process
from C++ after a while, with nothing that a person could read.
"""

import contextlib
import os
import secrets
import selectors
import socket
import sys
import threading
import time
from collections.abc import Callable

import jax
import numpy as np
from jax.experimental import multihost_utils

from circuits_jax.storage import stopping
from circuits_jax.storage.errors import ProcessError

BEAT_SECONDS = 2.0
SILENCE_SECONDS = 45.0  # long calls, such as a tokenizer's training, may hold Python's lock for a while
VERDICT_SECONDS = 5.0
_ALIVE, _LEAVING = b".", b"q"
_LOST, _STOPPED = b"l", b"s"  # followed by four bytes: which process, which signal
_TOKEN_BYTES = 16
_STRANGERS = 64  # that may wait beside the processes


def end_process(message: str) -> None:
    """Prints `message` as an error and ends this process at once, whatever its other threads wait for."""
    with contextlib.suppress(OSError, ValueError):  # nobody may be there any more to read it
        sys.stdout.flush()
        print(f"\nerror: {message}", file=sys.stderr, flush=True)
    os._exit(1)


class Watchdog:
    """Watches the other processes of the run from its making until `close`.

    Args:
      host: Where the others reach process 0; None lets process 0 say.
      end: Called with one line when a process is gone; does not return.
    """

    def __init__(self, host: str | None = None, end: Callable[[str], None] = end_process):
        self._end, self._closing = end, threading.Event()
        self._links: dict[int, socket.socket] = {}
        self._watchers: list[threading.Thread] = []
        if jax.process_count() == 1:
            return
        if jax.process_index() == 0:
            self._listen()
        else:
            self._connect(host)
        for index, link in self._links.items():
            link.settimeout(SILENCE_SECONDS)
            self._watchers.append(threading.Thread(target=self._watch, args=(index, link), daemon=True))
            self._watchers[-1].start()
        threading.Thread(target=self._beat, daemon=True).start()

    def close(self) -> None:
        """Leaves in peace: the others do without this process; process 0 waits until all have left."""
        self._closing.set()
        self._send(_LEAVING)
        if jax.process_index() == 0:
            for watcher in self._watchers:
                watcher.join(SILENCE_SECONDS)

    def stop(self) -> None:
        """Leaves because this process alone was asked to stop, and takes the others along."""
        self._closing.set()
        self._send(_STOPPED + stopping.asked().to_bytes(4, "big"))

    def abandon(self) -> None:
        """Leaves in trouble: the others notice, and end."""
        self._closing.set()
        for link in self._links.values():
            with contextlib.suppress(OSError):  # the other end may have closed it already
                link.shutdown(socket.SHUT_RDWR)

    def _listen(self) -> None:
        server = socket.create_server(("", 0), backlog=jax.process_count() + _STRANGERS)
        token = secrets.token_bytes(_TOKEN_BYTES)
        _share(_own_address(), server.getsockname()[1], token)
        with server:
            self._links = accept_peers(server, token, jax.process_count())

    def _connect(self, host: str | None) -> None:
        address, port, token = _share("", 0, bytes(_TOKEN_BYTES))
        try:
            link = socket.create_connection((host or address, port), timeout=SILENCE_SECONDS)
        except OSError as error:
            raise ProcessError(
                f"process 0's watchdog cannot be reached at {host or address}:{port} "
                f"({error.strerror or error})"
            ) from error
        link.sendall(token + jax.process_index().to_bytes(4, "big"))
        self._links[0] = link

    def _beat(self) -> None:
        while not self._closing.wait(BEAT_SECONDS):
            self._send(_ALIVE)

    def _send(self, message: bytes) -> None:
        for link in self._links.values():
            try:
                link.sendall(message)
            except OSError:
                continue  # whoever watches this link tells of it

    def _watch(self, index: int, link: socket.socket) -> None:
        """Reads what the process `index` sends until it leaves or is lost."""
        while True:
            try:
                message = _receive(link, 1)
                number = int.from_bytes(_receive(link, 4), "big") if message in (_LOST, _STOPPED) else index
            except OSError as error:
                return self._lost(index, "is gone" if not isinstance(error, TimeoutError) else "is silent")
            if message == _LEAVING:
                return None
            if message == _LOST:
                return self._lost(number, "is gone")
            if message == _STOPPED:
                return self._stopped(number)

    def _stopped(self, number: int) -> None:
        if self._closing.is_set():
            return
        self._closing.set()
        self._send(_STOPPED + number.to_bytes(4, "big"))
        told = stopping.stopped(number)
        stopping.end(f"\n{told}", told.code)

    def _lost(self, index: int, how: str) -> None:
        if self._closing.is_set():
            return
        self._closing.set()
        self._send(_LOST + index.to_bytes(4, "big"))
        self._end(
            f"process {index} of {jax.process_count()} {how}: its own output says why; "
            f"process {jax.process_index()} ends too; "
            "the same command on all of them goes on from the newest checkpoint"
        )


def accept_peers(
    server: socket.socket, token: bytes, count: int, seconds: float = SILENCE_SECONDS
) -> dict[int, socket.socket]:
    """The connections of the processes 1 to `count` - 1, by their numbers.

    Whatever else connects (a port scan, a health check) and says nothing, or something else than `token` and
    a number, neither ends this nor holds it up.

    Raises:
      ProcessError: if some of the processes have not come after `seconds`.
    """
    peers: dict[int, socket.socket] = {}
    heard: dict[socket.socket, bytes] = {}
    end = time.monotonic() + seconds
    with selectors.DefaultSelector() as selector:
        server.setblocking(False)
        selector.register(server, selectors.EVENT_READ)
        while len(peers) < count - 1:
            ready = selector.select(max(0.0, end - time.monotonic()))
            if not ready and time.monotonic() >= end:
                missing = ", ".join(str(index) for index in range(1, count) if index not in peers)
                _close(*heard, *peers.values())
                raise ProcessError(f"process {missing} has not connected to process 0's watchdog")
            for key, _ in ready:
                link = key.fileobj
                if link is server:
                    with contextlib.suppress(OSError):  # gone again already
                        stranger, _ = server.accept()
                        stranger.setblocking(False)
                        selector.register(stranger, selectors.EVENT_READ)
                        heard[stranger] = b""
                    continue
                assert isinstance(link, socket.socket)
                hello = _hear(link, heard[link])
                if hello is not None and len(hello) < _TOKEN_BYTES + 4:
                    heard[link] = hello
                    continue
                selector.unregister(link)
                del heard[link]
                known = hello is not None and hello[:_TOKEN_BYTES] == token
                index = int.from_bytes(hello[_TOKEN_BYTES:], "big") if hello and known else 0
                if 0 < index < count and index not in peers:
                    link.setblocking(True)
                    peers[index] = link
                else:
                    _close(link)
        _close(*heard)
    return peers


def _hear(link: socket.socket, before: bytes) -> bytes | None:
    """What a connection has said so far, at most a greeting's length; None if it is closed."""
    try:
        more = link.recv(_TOKEN_BYTES + 4 - len(before))
    except BlockingIOError:
        return before
    except OSError:
        return None
    return before + more if more else None


def _close(*links: socket.socket) -> None:
    for link in links:
        with contextlib.suppress(OSError):
            link.close()


def wait_for_verdict() -> None:
    """Gives the watchdog time to find out whether a failed exchange means that a process is gone."""
    time.sleep(VERDICT_SECONDS)


def _share(address: str, port: int, token: bytes) -> tuple[str, int, bytes]:
    """Process 0's arguments, on every process."""
    row = np.zeros(64 + _TOKEN_BYTES + 4, np.uint8)
    packed = address.encode().ljust(64, b"\0") + token + port.to_bytes(4, "big")
    row[:] = np.frombuffer(packed, np.uint8)
    data = bytes(np.asarray(multihost_utils.broadcast_one_to_all(row)).astype(np.uint8))
    token, port = data[64:-4], int.from_bytes(data[-4:], "big")
    return data[:64].rstrip(b"\0").decode(), port, token


def _own_address() -> str:
    """This machine's address on the network that leads elsewhere, or the loopback if none does."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("10.255.255.255", 1))  # sends nothing
            return probe.getsockname()[0]
        except OSError:
            return "127.0.0.1"


def _receive(link: socket.socket, count: int) -> bytes:
    data = b""
    while len(data) < count:
        part = link.recv(count - len(data))
        if not part:
            raise ConnectionError("closed")
        data += part
    return data
