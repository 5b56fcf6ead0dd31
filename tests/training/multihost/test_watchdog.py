"""What the watchdog does that no pair of processes shows at will."""

import socket
import struct
import threading
import time

import pytest

from circuits_jax.storage.errors import ProcessError
from circuits_jax.training.multihost.watchdog import Watchdog, accept_peers

TOKEN = bytes(range(16))


def greeting(index, token=TOKEN):
    return token + index.to_bytes(4, "big")


@pytest.fixture
def server():
    with socket.create_server(("127.0.0.1", 0), backlog=64) as server:
        yield server


def test_strangers_neither_end_nor_hold_the_start(server):
    def connect(*messages, close=False):
        link = socket.create_connection(server.getsockname(), timeout=10)
        for message in messages:
            link.sendall(message)
            time.sleep(0.02)  # a greeting may come in pieces
        if close:
            link.close()
        return link

    links = [connect() for _ in range(20)]  # silent ones
    links += [connect(b"GET / HTTP/1.1\r\nHost: here\r\n\r\n"), connect(b"x"), connect(close=True)]
    links += [
        connect(greeting(1, bytes(16))),
        connect(greeting(0)),
        connect(greeting(3)),
        connect(b"ab", close=True),
    ]
    reset = connect(b"abc")
    reset.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    reset.close()
    late = threading.Timer(0.3, lambda: links.append(connect(greeting(1))))
    late.start()
    links.append(connect(greeting(2)[:7], greeting(2)[7:]))
    began = time.monotonic()
    peers = accept_peers(server, TOKEN, 3, seconds=20)
    late.join()
    assert sorted(peers) == [1, 2] and time.monotonic() - began < 10
    links[-1].sendall(b".")
    links[-2].sendall(b".")
    assert all(peer.recv(1) == b"." for peer in peers.values())
    for link in (*links, *peers.values()):
        link.close()


def test_processes_that_do_not_come_are_named(server):
    with socket.create_connection(server.getsockname()) as link:
        link.sendall(greeting(2))
        with pytest.raises(ProcessError, match="process 1, 3 has not connected"):
            accept_peers(server, TOKEN, 4, seconds=0.5)


def test_leaving_in_trouble_tells_the_others_when_one_has_cut_its_connection():
    watchdog = Watchdog()
    with socket.create_server(("127.0.0.1", 0)) as server:
        others = []
        for number in (1, 2):
            others.append(socket.create_connection(server.getsockname(), timeout=5))
            watchdog._links[number], _ = server.accept()
    cut, waiting = others
    cut.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    cut.close()  # with a reset, as that of a killed process with unread bytes
    watchdog.abandon()
    assert waiting.recv(1) == b""  # the end of the connection; without it this would time out
    for link in (waiting, *watchdog._links.values()):
        link.close()
