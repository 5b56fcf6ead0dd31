"""Places are found again when the folder, the place, or both have moved."""

from pathlib import Path

import pytest

from circuits_jax.storage.places import about, remember, remembered


@pytest.fixture
def home(tmp_path: Path) -> Path:
    for name in ("runs/a", "stores/one"):
        (tmp_path / "home" / name).mkdir(parents=True)
    remember(tmp_path / "home" / "runs" / "a", "store", tmp_path / "home" / "stores" / "one", hash="x")
    return tmp_path / "home"


def there(folder: Path) -> list[Path]:
    return [place for place in remembered(folder, "store") if place.is_dir()]


def test_as_it_was(home: Path) -> None:
    assert there(home / "runs" / "a")[0] == home / "stores" / "one"
    assert about(home / "runs" / "a", "store")["hash"] == "x"
    assert remembered(home / "runs" / "a", "other") == [] and about(home, "store") == {}


def test_the_folder_alone_moves(home: Path, tmp_path: Path) -> None:
    assert there((home / "runs" / "a").rename(tmp_path / "b")) == [home / "stores" / "one"]


def test_both_move(home: Path, tmp_path: Path) -> None:
    moved = home.rename(tmp_path / "moved")
    assert there(moved / "runs" / "a") == [moved / "stores" / "one"]


def test_a_relative_place_is_found_from_elsewhere(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(home)
    remember(Path("runs/a"), "store", "stores/one")
    monkeypatch.chdir("/")
    assert there(home / "runs" / "a")[0] == home / "stores" / "one"


def test_urls_stay_and_several_names_live_side_by_side(home: Path) -> None:
    folder = home / "runs" / "a"
    remember(folder, "model", "hf:owner/name")
    remember(folder, "far", "https://example.org/model.pt")
    assert about(folder, "far")["place"] == "https://example.org/model.pt" and remembered(folder, "far") == []
    assert there(folder)[0] == home / "stores" / "one"


def test_a_damaged_record_is_as_good_as_none(home: Path) -> None:
    for content in (b"", b"[]", b'{"store": 3}', b'{"store": {"place": 4, "from_here": null}}'):
        (home / "runs" / "a" / "places.json").write_bytes(content)
        assert remembered(home / "runs" / "a", "store") == []
