"""experiments.device_check, on the CPU and at a tiny size: what it will do where there is an accelerator."""

import json

import pytest

from circuits_jax.runs import device_check
from tests.experiments.command import TINY, finish, start


def test_a_projection_that_keeps_others_is_noticed(monkeypatch):
    monkeypatch.setattr(device_check, "_SORTED", (8, 16))
    monkeypatch.setattr(device_check, "_KEPT", 20)
    assert device_check.agrees_with_sort()
    monkeypatch.setattr(device_check, "project_mask", lambda w, k: w > 0)
    assert not device_check.agrees_with_sort()


@pytest.mark.slow
def test_the_figures_are_written(tmp_path):
    flags = ("--config.model.activation_fraction=0.25", "--steps=1", f"--workdir={tmp_path / 'check'}")
    code, out, errors = finish(start(tmp_path / "programs", "device_check", *TINY, *flags))
    assert code == 0, errors
    (row,) = json.loads((tmp_path / "check" / "device_check.json").read_text())["rows"]
    assert row["sharded projection equal"] == "True" and row["device"] == "cpu"
    assert row["tokens a second"] == pytest.approx(2 * 16 / (row["step, ms"] / 1e3))
    assert "projection, share of a step" in row and "AbsTopK, share of a step" in row
    assert "MFU" not in row  # a CPU's peak is not known
    assert "tokens a step" in out and "sharded projection equal" in out
