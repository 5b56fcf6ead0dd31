import errno
import json
import os

import numpy as np
import pytest

from circuits_jax.storage.errors import UserError
from circuits_jax.storage.files import check_writable, write_aside, write_json


def test_json_is_written_whole_or_not_at_all(tmp_path):
    path = tmp_path / "deep" / "figures.json"
    write_json(path, {"a": 1})
    with pytest.raises(TypeError):
        write_json(path, {"a": object()})
    assert json.loads(path.read_text()) == {"a": 1}
    assert list(path.parent.iterdir()) == [path]


def test_json_has_null_for_what_is_no_finite_number(tmp_path):
    nan, inf = float("nan"), float("inf")
    write_json(tmp_path / "x.json", {"a": [nan, (inf, 1.5)], "b": {"c": -inf, "d": np.float64("nan")}})
    text = (tmp_path / "x.json").read_text()
    assert json.loads(text, parse_constant=pytest.fail) == {
        "a": [None, [None, 1.5]],
        "b": {"c": None, "d": None},
    }


@pytest.mark.parametrize("name", ["x" * 249 + ".jsonl", "\N{GRINNING FACE}" * 62, "x" * 255])
def test_a_name_may_be_as_long_as_a_disk_allows(tmp_path, name):
    with write_aside(tmp_path / name) as file:
        file.write(b"content")
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [(name, b"content")]


def test_an_error_in_the_block_leaves_the_file_as_it_was(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"before")
    with pytest.raises(KeyError), write_aside(path) as file:
        file.write(b"half")
        raise KeyError
    assert path.read_bytes() == b"before"
    with write_aside(path) as file:
        file.write(b"after")
    assert path.read_bytes() == b"after"
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_that_takes_nothing_is_found_out_before_any_work(tmp_path, monkeypatch):
    check_writable(tmp_path / "new")
    assert list((tmp_path / "new").iterdir()) == []
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot write to .*file: Not a directory; make it writable"):
        check_writable(tmp_path / "file" / "run")

    def full(descriptor):
        raise OSError(errno.EDQUOT, "Disk quota exceeded")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(UserError, match="new: Disk quota exceeded; .* --out=DIR"):
        check_writable(tmp_path / "new", "or name --out=DIR")
    assert list((tmp_path / "new").iterdir()) == []


def test_two_containers_whose_processes_have_one_number_write_the_same_file(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "getpid", lambda: 1)
    path = tmp_path / "file"
    with write_aside(path) as first:
        with write_aside(path) as second:
            first.write(b"first, which is longer")
            second.write(b"second")
        assert path.read_bytes() == b"second"
    assert path.read_bytes() == b"first, which is longer"
    assert list(tmp_path.iterdir()) == [path]
