import json
import math
import sys

import pytest

from circuits_jax.storage.errors import TrainingError, UserError
from circuits_jax.training.metrics import MetricsWriter, read_metrics


def write(workdir, restored, steps):
    with MetricsWriter(workdir, restored) as writer:
        for step in steps:
            writer.write(step, {"loss": 1 / step})


def steps(workdir):
    return [row["step"] for row in read_metrics(workdir)]


def test_rows_come_back_as_they_were_written(tmp_path):
    write(tmp_path, 0, [1, 2, 3])
    assert read_metrics(tmp_path) == [{"step": step, "loss": 1 / step} for step in (1, 2, 3)]
    lines = (tmp_path / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == [1, 2, 3]


def test_a_resumed_run_cuts_back_to_its_step(tmp_path):
    write(tmp_path, 0, [10, 20, 30, 40])
    write(tmp_path, 25, [30, 50])
    assert steps(tmp_path) == [10, 20, 30, 50]
    write(tmp_path, 0, [])
    assert steps(tmp_path) == []


def test_a_restored_step_that_was_logged_keeps_its_row(tmp_path):
    write(tmp_path, 0, [10, 20])
    write(tmp_path, 20, [30])
    assert steps(tmp_path) == [10, 20, 30]


@pytest.mark.parametrize("cut", [1, 5, 12])
def test_a_last_line_cut_short_is_dropped_and_the_next_row_stands_alone(tmp_path, cut):
    write(tmp_path, 0, [10, 20, 30])
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(path.read_bytes()[: -cut - 1])
    assert steps(tmp_path) == [10, 20]
    write(tmp_path, 30, [40])
    assert steps(tmp_path) == [10, 20, 40]
    assert all(json.loads(line) for line in path.read_text().splitlines())


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"\0" * 30,
        b'{"step": 20, "lo',
        b"\xff\xfe\x00",
        b"[1, 2]",
        b'{"loss": 1.0}',
        b'{"step": "20"}',
        b"[",
        b'{"step": 20, "loss": NaN}',
        b'{"step": 20, "loss": -Infinity}',
        b'{"step": 20, "loss": 1e400}',
        b'{"step": 20, "loss": 1' + b"0" * 400 + b"}",
    ]
    + [b"[" * 100_000, b'{"step": 20, "loss": "x"}', b'{"step": 20}{"step": 20}', "é\u2028".encode()],
)
def test_a_damaged_line_costs_that_line_alone(tmp_path, line, capsys):
    write(tmp_path, 0, [10, 20, 30, 40])
    path = tmp_path / "metrics.jsonl"
    lines = path.read_bytes().split(b"\n")
    path.write_bytes(b"\n".join([lines[0], line, *lines[2:]]))
    assert steps(tmp_path) == [10, 30, 40]
    assert capsys.readouterr().out == ""
    write(tmp_path, 40, [50])
    assert steps(tmp_path) == [10, 30, 40, 50]
    assert capsys.readouterr().out.count("1 damaged lines are left out (line 2)") == bool(line)


def test_a_last_line_that_lacks_only_its_end_is_kept(tmp_path):
    write(tmp_path, 0, [10, 20])
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(path.read_bytes().rstrip(b"\n"))
    write(tmp_path, 20, [30])
    assert steps(tmp_path) == [10, 20, 30]


def test_rows_are_on_disk_as_soon_as_they_are_written(tmp_path):
    with MetricsWriter(tmp_path, 0) as writer:
        writer.write(1, {"loss": 2.0})
        assert steps(tmp_path) == [1]


def test_values_that_are_not_finite_are_left_out(tmp_path):
    with MetricsWriter(tmp_path, 0) as writer:
        writer.write(3, {"loss": math.nan, "rate": math.inf, "low": -math.inf, "l0": 0.5})
    assert read_metrics(tmp_path) == [{"step": 3, "l0": 0.5}]
    assert "NaN" not in (tmp_path / "metrics.jsonl").read_text()


def test_no_file_means_no_rows(tmp_path):
    assert read_metrics(tmp_path) == []


def test_cutting_back_leaves_nothing_beside_the_file(tmp_path):
    write(tmp_path, 0, [1])
    write(tmp_path, 1, [2])
    assert [path.name for path in tmp_path.iterdir()] == ["metrics.jsonl"]


def test_tensorboard_without_its_package_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorboardX", None)
    with pytest.raises(UserError, match="pip install tensorboardX"):
        MetricsWriter(tmp_path, 0, tensorboard=True)


@pytest.mark.skipif(sys.platform != "linux", reason="/dev/full is Linux's")
def test_a_full_disk_is_reported_with_what_to_do(tmp_path):
    writer = MetricsWriter(tmp_path, 0)
    writer._file = open("/dev/full", "a", buffering=1)  # noqa: SIM115
    with pytest.raises(TrainingError, match=r"metrics\.jsonl: No space left.*checkpoints are intact"):
        writer.write(1, {"loss": 1.0})
