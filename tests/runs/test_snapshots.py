"""Sparse snapshots of training: which steps, what is in them, and that a killed run keeps the same."""

import json
import math

import fsspec
import jax
import numpy as np
import pytest

import circuits_jax as cj
from circuits_jax.runs import training
from circuits_jax.runs.bridging import train_bridges
from circuits_jax.runs.snapshots import Snapshots
from circuits_jax.storage import buckets
from circuits_jax.storage.errors import BridgeError, TrainingError
from circuits_jax.storage.paths import as_path
from circuits_jax.training.loop import Trainer
from circuits_jax.training.snapshots import snapshot_steps
from tests.training.tiny import CONFIG, assert_equal, replace, write_programs


@pytest.mark.parametrize(("count", "steps"), [(1, 9), (2, 9), (5, 16), (16, 16000), (16, 12), (3, 1)])
def test_steps_are_spaced_by_a_constant_factor_and_end_with_the_last(count, steps):
    found = sorted(snapshot_steps(count, steps))
    assert found[-1] == steps and len(found) <= count and found[0] == (1 if count > 1 else steps)
    factor = steps ** (1 / max(1, count - 1))
    for one, two in zip(found, found[1:], strict=False):  # but for rounding each of the two by a half
        assert (two - 0.5) / (one + 0.5) <= max(factor, 2) <= math.inf
        assert (two + 0.5) / (one - 0.5) >= factor
    if factor > 2:
        assert len(found) == count


def test_none_are_kept_by_default():
    assert snapshot_steps(0, 100) == frozenset() and cj.Config().train.snapshots == 0


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    tree = tmp_path_factory.mktemp("snapshots") / "tree"
    write_programs(tree)
    config = replace(CONFIG, "data", roots=(str(tree),))
    config = replace(config, "train", bigram_prior=20.0, snapshots=4, checkpoint_every=5, log_every=4)
    return replace(config, "model", bigram="counts")


@pytest.fixture(scope="module")
def whole(config, tmp_path_factory):
    return cj.train(config, tmp_path_factory.mktemp("snapshots") / "run")


def files(workdir):
    """{path below the snapshots: content}."""
    folder = workdir / "snapshots"
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_each_opens_by_itself_and_the_last_is_the_trained_model(whole, tmp_path):
    found = {int(path.name): path for path in (whole.folder / "snapshots").iterdir()}
    assert sorted(found) == [1, 2, 5, 12]  # 12 ** (i / 3)
    last = cj.load(found[12].rename(tmp_path / "elsewhere"))
    (tmp_path / "elsewhere").rename(found[12])
    assert last.model.hash == whole.model.hash and last.workdir is None
    assert_equal(last.model.params, whole.model.params)
    assert last.tokenizer.hash == whole.tokenizer.hash
    kept = [
        np.count_nonzero(cj.load(found[step]).model.params["h_0"]["mlp"]["c_fc"]["kernel"])
        for step in (1, 2, 5, 12)
    ]
    assert kept == sorted(kept, reverse=True) and kept[0] > 4 * kept[-1]  # the anneal


def test_a_run_that_was_stopped_between_a_snapshot_and_a_checkpoint_keeps_the_same(
    config, whole, tmp_path, monkeypatch
):
    class Killed(Exception):
        pass

    class Dying(Trainer):
        def run(self):
            step = self.step

            def killed(state, batch, frozen):
                if int(state.step) == 7:
                    raise Killed
                return step(state, batch, frozen)

            self.step = killed
            return super().run()

    with monkeypatch.context() as patch:
        patch.setattr(training, "Trainer", Dying)
        with pytest.raises(Killed):
            cj.train(config, tmp_path / "run")
    assert {name.split("/")[0] for name in files(tmp_path / "run")} == {"1", "2", "5"}
    spoiled = tmp_path / "run" / "snapshots" / "5" / "weights.safetensors"
    before = spoiled.read_bytes()
    cj.train(config, tmp_path / "run")
    there, here = files(whole.folder), files(tmp_path / "run")
    assert [name for name in there | here if there.get(name) != here.get(name)] == []
    assert spoiled.read_bytes() == before


def test_a_run_may_go_on_with_another_number_of_them(config, whole):
    without = replace(config, "train", snapshots=0)
    before = files(whole.folder)
    assert cj.train(without, whole.folder).model.hash == whole.model.hash and files(whole.folder) == before


def test_a_folder_that_cannot_be_written_stops_the_run_in_one_line(config, whole, tmp_path):
    (tmp_path / "snapshots").write_text("a file")
    kept = Snapshots(replace(config, "model", bigram="none"), tmp_path, whole.tokenizer)
    params = {name: leaf for name, leaf in whole.model.params.items() if name != "bigram"}
    with pytest.raises(TrainingError, match=r"snapshots/5 cannot be written: .*give the same command again"):
        kept.keep(5, params)


def test_they_are_kept_in_buckets_and_opened_from_there(config, whole, tmp_path, monkeypatch):
    place = fsspec.filesystem("file", auto_mkdir=True)
    server = fsspec.filesystem("dir", path=str(tmp_path / "server"), fs=place)
    server.mkdir("bucket")
    monkeypatch.setattr(buckets, "_file_system", lambda scheme: server)
    monkeypatch.setattr(fsspec, "get_filesystem_class", lambda protocol: type(server))
    workdir = as_path("gs://bucket/run")
    (workdir / "bigram.npz").write_bytes((whole.folder / "bigram.npz").read_bytes())
    params = {name: leaf for name, leaf in whole.model.params.items() if name != "bigram"}
    Snapshots(config, workdir, whole.tokenizer).keep(12, jax.device_put(params))
    there = {name: (workdir / "snapshots" / name).read_bytes() for name in (workdir / "snapshots").names()}
    assert there == {name: content for name, content in files(whole.folder).items() if name[:3] == "12/"}


def test_bridges_keep_none_and_say_so(config, tmp_path):
    with pytest.raises(BridgeError, match="train.snapshots is 4, and snapshots are kept of language models"):
        train_bridges(config, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_runs_of_before_there_were_snapshots_open(whole):
    path = whole.folder / "config.json"
    values = json.loads(path.read_text())
    del values["train"]["snapshots"]
    before = path.read_text()
    path.write_text(json.dumps(values))
    assert cj.load(whole.folder).config.train.snapshots == 0
    path.write_text(before)
