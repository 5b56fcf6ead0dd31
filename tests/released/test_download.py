"""Downloads that break: one line, what came is kept, and the next call goes on from there."""

import http.server
import socket
import threading

import fsspec
import numpy as np
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from circuits_jax import released
from circuits_jax.released import download
from circuits_jax.released.remote import fetched_file
from circuits_jax.released.viz.means import PUBLISHED
from circuits_jax.storage.errors import CheckpointError
from tests.released.models import TINY, assert_equal, random_params
from tests.released.viz import published


class Breaking(MemoryFileSystem):
    """Times out after so many blocks; counts what was asked for."""

    protocol, store, pseudo_dirs, cachable = "breaking", {}, [""], False
    blocks, read = 10**9, 0

    @classmethod
    def _strip_protocol(cls, path):
        return "/" + path.removeprefix("breaking://").strip("/")

    def _open(self, path, mode="rb", **options):
        file = super()._open(path, mode, **options)
        if mode != "rb":
            return file
        outer = type(self)

        class Remote:
            def __enter__(self):
                self.file = file
                file.seek(0)
                return self

            def __exit__(self, *error):
                pass

            def seek(self, place):
                return file.seek(place)

            def read(self, size):
                if outer.blocks <= 0:
                    raise TimeoutError
                outer.blocks -= 1
                block = file.read(size)
                outer.read += len(block)
                return block

        return Remote()


@pytest.fixture
def remote(tmp_path, monkeypatch):
    fsspec.register_implementation("breaking", Breaking, clobber=True)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(download, "BLOCK", 64)
    Breaking.store.clear()
    Breaking.blocks, Breaking.read = 10**9, 0
    return Breaking()


def downloads(tmp_path):
    return [path for path in (tmp_path / "cache").rglob("*") if path.is_file()]


def test_a_download_goes_on_from_where_it_broke(remote, tmp_path):
    params = random_params(TINY)
    folder = released.export(params, TINY, tmp_path / "model")
    remote.put(f"{folder}/", "/models/m/", recursive=True)
    size = (folder / "final_model.pt").stat().st_size
    for parts in range(1, 4):
        Breaking.blocks = 5
        with pytest.raises(
            CheckpointError,
            match=r"breaking://models/m cannot be fetched: it timed out; the "
            rf"{parts * 320:,} bytes that came are kept, and the same command goes on",
        ) as error:
            released.load("breaking://models/m")
        assert "\n" not in str(error.value)
    Breaking.blocks, before = 10**9, Breaking.read
    assert_equal(released.load("breaking://models/m").params, params)
    config = (folder / "beeg_config.json").stat().st_size
    assert Breaking.read - before == size - 3 * 320 + config
    assert not downloads(tmp_path)  # of what came whole nothing is left


def test_what_changed_meanwhile_is_fetched_anew(remote, tmp_path):
    params = random_params(TINY)
    remote.put(f"{released.export(params, TINY, tmp_path / 'model')}/", "/m/", recursive=True)
    Breaking.blocks = 5
    with pytest.raises(CheckpointError, match="timed out"):
        released.load("breaking://m")
    other = random_params(TINY, seed=1)
    remote.put(f"{released.export(other, TINY, tmp_path / 'other')}/", "/m/", recursive=True)
    Breaking.blocks = 10**9
    assert_equal(released.load("breaking://m").params, other)


def test_a_published_circuit_with_the_means_above_it(remote, tmp_path):
    from circuits_jax.released.torch_files.write import write_torch_file

    write_torch_file(tmp_path / "viz_data.pt", published.viz_data())
    path = "/viz/csp_yolo1/single_double_quote/prune_v2/64/viz_data.pt"
    remote.pipe(path, (tmp_path / "viz_data.pt").read_bytes())
    remote.pipe(f"/viz/csp_yolo1/{PUBLISHED}", b"means")
    with fetched_file("breaking:/" + path, PUBLISHED) as local:
        assert local.read_bytes() == (tmp_path / "viz_data.pt").read_bytes()
        assert (local.parent / PUBLISHED).read_bytes() == b"means"
    with pytest.raises(CheckpointError, match="is not there"), fetched_file("breaking://viz/x.pt", PUBLISHED):
        pass
    with pytest.raises(CheckpointError, match="names no file"), fetched_file("hf:owner/name", PUBLISHED):
        pass


class Server(http.server.BaseHTTPRequestHandler):
    """Serves one file, with ranges or without; the first requests for its content stall after some bytes."""

    content, ranges, stalls, sent = b"", True, 0, 0

    def do_HEAD(self):
        self.answer(body=False)

    def do_GET(self):
        self.answer(body=True)

    def answer(self, body):
        here = type(self)
        if not self.path.endswith("/file.bin"):
            return self.send_error(404)
        start, end, wanted = 0, len(here.content), self.headers.get("Range")
        if here.ranges and wanted:
            first, _, last = wanted.removeprefix("bytes=").partition("-")
            start, end = int(first), min(int(last) + 1, end)
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {start}-{end - 1}/{len(here.content)}")
        else:
            self.send_response(200)
        if here.ranges:
            self.send_header("Accept-Ranges", "bytes")
        self.send_header("Content-Length", str(end - start))
        self.end_headers()
        if not body:
            return None
        if start > 0 and here.stalls and here.ranges:
            here.stalls -= 1
            threading.Event().wait(3)
            return None
        self.wfile.write(here.content[start:end])
        here.sent += end - start
        return None

    def log_message(self, *said):
        pass


@pytest.mark.parametrize("ranges", [True, False])
def test_over_http(tmp_path, monkeypatch, ranges):
    pytest.importorskip("aiohttp")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(download, "BLOCK", 2**16)
    monkeypatch.setattr(download, "_STALLED", 1)
    content = np.random.default_rng(0).bytes(300_000)
    handler = type("Handler", (Server,), {"content": content, "ranges": ranges, "stalls": 1, "sent": 0})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        url = f"http://127.0.0.1:{server.server_address[1]}"
        if ranges:
            with (
                pytest.raises(CheckpointError, match="bytes that came are kept") as error,
                fetched_file(f"{url}/file.bin", "none.pt"),
            ):
                pass
            assert "\n" not in str(error.value)
        with fetched_file(f"{url}/file.bin", "none.pt") as local:
            assert local.read_bytes() == content
        if ranges:
            assert handler.sent == len(content)  # nothing twice
        with pytest.raises(CheckpointError, match="is not there"), fetched_file(f"{url}/nothing", "none.pt"):
            pass
    finally:
        server.shutdown()
        server.server_close()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        closed = f"http://127.0.0.1:{free.getsockname()[1]}/file.bin"
    with pytest.raises(CheckpointError, match="cannot be fetched") as error, fetched_file(closed, "none.pt"):
        pass
    assert "\n" not in str(error.value)
