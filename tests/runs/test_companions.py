"""Models that a run was trained with are found by what they are, whatever lies at their old names."""

from types import SimpleNamespace

import pytest

from circuits_jax.runs import companions
from circuits_jax.runs.companions import DENSE, open_companion
from circuits_jax.storage import places
from circuits_jax.storage.errors import CheckpointError


@pytest.fixture
def lying(tmp_path, monkeypatch):
    """A run that wrote down the model "wanted" at `new`; says what lies at `old`, `new` and a URL."""
    for name in ("run", "old", "new"):
        (tmp_path / name).mkdir()
    places.remember(tmp_path / "run", DENSE, tmp_path / "new", hash="wanted")
    held = {}

    def load_model(name):
        found = held[name.rpartition("/")[2]]
        if isinstance(found, Exception):
            raise found
        return SimpleNamespace(hash=found)

    monkeypatch.setattr(companions, "load_model", load_model)

    def opened(*names, **what):
        held.update(what)
        given = [str(tmp_path / name) if name in ("old", "new") else name for name in names]
        return open_companion(tmp_path / "run", DENSE, given).hash

    return opened


REFUSED = CheckpointError("there is no model here")


@pytest.mark.parametrize("what", ["another", REFUSED, PermissionError("closed")])
@pytest.mark.parametrize("names", [("old",), (None, "old"), ("hf:owner/old",), ("~no_such_user/run", "old")])
def test_a_moved_model_is_found_whatever_lies_at_its_old_name(lying, names, what):
    assert lying(*names, old=what, new="wanted") == "wanted"


def test_where_none_is_it_the_last_place_decides(lying, tmp_path):
    assert lying("old", old=REFUSED, new="another") == "another"  # whoever opens it says so
    with pytest.raises(CheckpointError, match="^it is damaged$"):
        lying("old", old="another", new=CheckpointError("it is damaged"))
    for name in ("old", "new"):
        (tmp_path / name).rmdir()
    with pytest.raises(CheckpointError, match=r"lies in none of .*old, .*new; name its folder: --config"):
        lying("old")
