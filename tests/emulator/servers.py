"""Object stores on this machine that speak the protocols of S3 and of Google's Cloud Storage."""

import contextlib
import importlib.util
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

BUCKET = "bucket"
PACKAGES = {"s3": ("moto", "flask", "s3fs"), "gs": ("gcp_storage_emulator", "gcsfs")}


def missing(scheme):
    """Packages that are not installed: the extras `gcs`, `s3` and `emulators` bring them."""
    return [name for name in PACKAGES[scheme] if importlib.util.find_spec(name) is None]


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def address(scheme, port):
    """Variables of the environment that lead the libraries to a server here."""
    if scheme == "s3":
        return {
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
            "AWS_ACCESS_KEY_ID": "AKIAOFTHETEST",
            "AWS_SECRET_ACCESS_KEY": "secret",
            "AWS_DEFAULT_REGION": "us-east-1",
        }
    # The second looks up what kind of bucket it is, by another protocol that the server does not speak.
    return {
        "STORAGE_EMULATOR_HOST": f"http://127.0.0.1:{port}",
        "GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT": "false",
    }


@contextlib.contextmanager
def served(scheme, log, guarded=False):
    """Within the block a server with one bucket; gives its `address`.

    Args:
      scheme: "s3" or "gs".
      log: File that gets every request.
      guarded: Whether it refuses every account; only for "s3".
    """
    port = free_port()
    if scheme == "s3":
        command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
        make = urllib.request.Request(f"http://127.0.0.1:{port}/{BUCKET}", method="PUT")
    else:
        start = "from gcp_storage_emulator.__main__ import main; main()"
        command = [sys.executable, "-c", start, "start", "--host=127.0.0.1", f"--port={port}", "--in-memory"]
        body = json.dumps({"name": BUCKET}).encode()
        headers = {"Content-Type": "application/json"}
        make = urllib.request.Request(f"http://127.0.0.1:{port}/storage/v1/b?project=p", body, headers)
    # Of moto: how many requests pass before it looks at accounts.
    environment = os.environ | ({"INITIAL_NO_AUTH_ACTION_COUNT": "1"} if guarded else {})
    with open(log, "wb") as output:
        server = subprocess.Popen(command, stdout=output, stderr=output, env=environment)
    try:
        until = time.monotonic() + 60
        while True:
            try:
                urllib.request.urlopen(make, timeout=10).close()
                break
            except OSError:
                assert server.poll() is None and time.monotonic() < until, log.read_text()[-2000:]
                time.sleep(0.2)
        yield address(scheme, port)
    finally:
        server.send_signal(signal.SIGKILL)
        server.wait()


class _Forbids(BaseHTTPRequestHandler):
    """Answers as Google's servers answer an account that may not do what it asks for."""

    def do_GET(self):  # noqa: N802 - named by the base class
        content = json.dumps(
            {"error": {"code": 403, "message": "reader@p.iam does not have access"}}
        ).encode()
        self.send_response(403)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    do_POST = do_PUT = do_DELETE = do_GET  # noqa: N815

    def log_message(self, *args):
        pass


@contextlib.contextmanager
def forbidding():
    """Within the block a server of Google's protocol that forbids everything; gives its `address`."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Forbids)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield address("gs", server.server_port)
    finally:
        server.shutdown()
        server.server_close()
