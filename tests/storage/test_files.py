import json

import pytest

from circuits_jax.storage.files import write_aside, write_json


def test_json_is_written_whole_or_not_at_all(tmp_path):
    path = tmp_path / "deep" / "figures.json"
    write_json(path, {"a": 1})
    with pytest.raises(TypeError):
        write_json(path, {"a": object()})
    assert json.loads(path.read_text()) == {"a": 1}
    assert list(path.parent.iterdir()) == [path]


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
