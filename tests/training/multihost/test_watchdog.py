"""What the watchdog does that no pair of processes shows at will."""

import socket
import struct

from circuits_jax.training.multihost.watchdog import Watchdog


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
