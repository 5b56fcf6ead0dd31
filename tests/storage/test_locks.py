"""One process at a time in a folder, by locks and by leases, and none after its end."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time

import pytest

from circuits_jax.storage import locks
from circuits_jax.storage.errors import LockError, UserError
from circuits_jax.storage.locks import Lease, locked


@pytest.fixture
def holder(tmp_path):
    """Another process that has the lock of `tmp_path`."""
    script = (
        "import sys, time; from pathlib import Path; from circuits_jax.storage.locks import locked\n"
        "with locked(Path(sys.argv[1])):\n    print('held', flush=True); time.sleep(60)"
    )
    process = subprocess.Popen([sys.executable, "-c", script, str(tmp_path)], stdout=subprocess.PIPE)
    assert process.stdout.readline() == b"held\n"
    yield process
    process.kill()
    process.communicate()


def test_a_second_process_is_told_who_has_the_lock_and_a_dead_one_has_it_no_longer(holder, tmp_path):
    said = rf"{tmp_path} is in use by process {holder.pid} on {socket.gethostname()}, since 20\d\d-"
    with pytest.raises(LockError, match=said), locked(tmp_path):
        pytest.fail("two at once")
    with locked(tmp_path, "another lock"):
        holder.send_signal(signal.SIGKILL)
        holder.wait()
    for _ in range(2):  # and again when it was given back
        with locked(tmp_path):
            assert json.loads((tmp_path / ".lock").read_text())["process"] == os.getpid()
    assert (tmp_path / ".lock").read_text() == ""


def test_process_numbers_say_nothing_for_containers_share_them(tmp_path):
    """A note of a dead process with this one's own number and host, and a living one's with the same."""
    (tmp_path / ".lock").write_text(json.dumps(locks._myself()))
    with locked(tmp_path), pytest.raises(LockError, match=f"process {os.getpid()} on"), locked(tmp_path):
        pytest.fail("two at once")


def test_a_folder_that_cannot_be_written_is_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    said = r"cannot write to .*file: Not a directory"
    with pytest.raises(UserError, match=said), locked(tmp_path / "file" / "run"):
        pytest.fail("no folder")


@pytest.fixture
def quick(monkeypatch):
    for name, seconds in {"RENEW": 0.05, "DEAD": 1.5, "_LOOK": 0.02}.items():
        monkeypatch.setattr(locks, f"{name}_SECONDS", seconds)


def lease(folder, lost=pytest.fail):
    return Lease(folder, ".lock", lost)


def test_a_lease_is_refused_while_renewed_and_free_when_given_back(tmp_path, quick, capsys):
    first = lease(tmp_path)
    first.take()
    with pytest.raises(LockError, match=f"process {os.getpid()} on {socket.gethostname()}, since 20"):
        lease(tmp_path).take()
    first.give_back()
    lease(tmp_path).take()
    assert capsys.readouterr().out.count("looking for up to") == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == [".lock-00000001.json", ".lock-00000002.json"]


def test_a_listing_that_misses_the_newest_lease_makes_no_second_holder(tmp_path, quick, monkeypatch):
    """Folders are not listed at one instant: what is made meanwhile may be missing, what is removed too."""
    for _ in range(2):
        held = lease(tmp_path)
        held.take()
        held.give_back()
    held = lease(tmp_path)
    held.take()
    late, listed = lease(tmp_path), held._numbers
    monkeypatch.setattr(late, "_numbers", lambda: listed()[:-1] if late._number == 0 else listed())
    with pytest.raises(LockError):
        late.take()
    held.give_back()


def test_a_dead_holders_lease_is_taken_by_one_of_those_who_wait(tmp_path, quick):
    dead = lease(tmp_path)
    dead.take()
    dead._given_back.set()  # as a kill has it: no longer renewed, never given back
    taken, refused = [], []

    def contend():
        mine = lease(tmp_path)
        try:
            mine.take()
            taken.append(mine)
        except LockError:
            refused.append(mine)

    threads = [threading.Thread(target=contend) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(taken), len(refused)) == (1, 3)


@pytest.mark.parametrize(
    "note",
    [
        b"",
        b'{"host": "a", "proc',
        b"[" * 100_000,
        b"[]",
        b"\xff",
        b'{"renewed": 1' + b"0" * 5000 + b"}",
        *(json.dumps({"beat": 3, "renewed": x, "host": 5}).encode() for x in ("x", None, [], -1, 10**400)),
        b'{"beat": 3, "renewed": 1e400, "given_back": "x"}',
        b'{"beat": 3}',
    ],
    ids=lambda note: repr(note[:40]),
)
def test_a_note_that_says_nothing_is_watched_as_a_fresh_one_is(note, tmp_path, quick, monkeypatch):
    monkeypatch.setattr(locks, "DEAD_SECONDS", 0.1)
    (tmp_path / ".lock-00000001.json").write_bytes(note)
    waited, sleep = [], time.sleep
    monkeypatch.setattr(locks.time, "sleep", lambda seconds: (waited.append(seconds), sleep(seconds)))
    mine = lease(tmp_path)
    mine.take()
    assert len(waited) >= 2
    mine.give_back()


def test_the_lock_of_a_holder_whose_clock_is_wrong_is_kept(tmp_path, quick, monkeypatch):
    held, now = lease(tmp_path), time.time
    for wrong in (-7200, 7200):
        monkeypatch.setattr(Lease, "_content", lambda self, w=wrong: json.dumps(
            self._note | {"beat": self._beat, "renewed": now() + w, "given_back": self._given_back.is_set()}
        ).encode())  # fmt: skip
        held = lease(tmp_path)
        held.take()
        with pytest.raises(LockError, match=f"process {os.getpid()}"):
            lease(tmp_path).take()
        held.give_back()


@pytest.mark.parametrize("links", [True, False])
def test_a_note_is_whole_whenever_it_is_read_and_nothing_lies_beside_it(tmp_path, quick, monkeypatch, links):
    def refuse(source, target):
        raise PermissionError("no links here")

    if not links:
        monkeypatch.setattr(os, "link", refuse)
    monkeypatch.setattr(locks, "RENEW_SECONDS", 0.001)
    held, path = lease(tmp_path), tmp_path / ".lock-00000001.json"
    held.take()
    with pytest.raises(FileExistsError):
        locks._create(path, b"another")
    notes = [json.loads(path.read_bytes()) for _ in range(200)]
    held.give_back()
    assert all(note["process"] == os.getpid() for note in notes)
    time.sleep(0.05)
    assert [each.name for each in tmp_path.iterdir()] == [path.name]


def test_a_holder_that_was_thought_dead_learns_of_it_and_ends(tmp_path, quick, monkeypatch):
    told, ended = [], threading.Event()
    sleeper = lease(tmp_path, lambda why: (told.append(why), ended.set()))
    monkeypatch.setattr(locks, "RENEW_SECONDS", 3.0)
    sleeper.take()
    other = lease(tmp_path)
    other.take()
    assert ended.wait(5) and "taken over by process" in told[0]
    other.give_back()


def test_disks_without_locks_have_leases(tmp_path, quick, monkeypatch):
    def refuse(descriptor, how):
        raise OSError(locks.errno.ENOLCK, "No locks available")

    monkeypatch.setattr(locks.fcntl, "flock", refuse)
    with locked(tmp_path), pytest.raises(LockError), locked(tmp_path):
        pytest.fail("two at once")
    assert json.loads((tmp_path / ".lock-00000001.json").read_text())["given_back"]
