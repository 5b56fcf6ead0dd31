"""What the watchdog does that no pair of processes shows at will."""

import socket
import struct

from circuits_jax.training.watchdog import Watchdog


def test_leaving_in_trouble_bears_a_connection_that_the_other_end_has_cut():
    watchdog = Watchdog()
    with socket.create_server(("127.0.0.1", 0)) as server:
        other = socket.create_connection(server.getsockname())
        watchdog._links[1], _ = server.accept()
    other.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    other.close()  # with a reset, as that of a killed process with unread bytes
    watchdog.abandon()
    watchdog._links[1].close()
