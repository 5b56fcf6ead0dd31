"""The number of CPU devices: never one that is refused, what a run had before, what was measured."""

import dataclasses
import types

import pytest

from circuits_jax.config import Config, MeshConfig
from circuits_jax.configs.finding import load_config
from circuits_jax.runs import cpu_devices
from circuits_jax.runs.cpu_devices import Choice, candidates, choose, fastest, fits
from circuits_jax.storage.errors import ConfigError
from circuits_jax.training.devices import record_devices
from circuits_jax.training.mesh.meshes import axis_sizes

LEARNED = load_config("quickstart", {"model.bigram": "learned"})  # which takes one device by default


def training(batch_size=8, **mesh):
    train = dataclasses.replace(Config().train, batch_size=batch_size)
    return Config(train=train, mesh=MeshConfig(**mesh))


@pytest.mark.parametrize("config", [LEARNED, *map(training, (1, 6, 7, 12, 48))], ids=lambda c: str(c.train))
def test_from_one_core_to_sixty_four_no_default_and_no_candidate_is_refused(config):
    for cores in range(1, 65):
        assert choose(None, config, None).devices == 1
        counts = candidates(config, cores)
        assert counts[0] == 1 and max(counts) <= cores
        for count in counts:
            sizes = axis_sizes(config.mesh, count, config.train.batch_size)
            assert sizes == (count, 1, 1) and config.train.batch_size % count == 0


@pytest.mark.parametrize(
    ("settings", "cores", "devices"),
    [
        ({"model.bigram": "counts"}, 2, 2),
        ({"model.bigram": "none"}, 64, 2),
        ({"model.bigram": "counts"}, 1, 1),
        ({"model.bigram": "learned"}, 2, 1),
        ({"model.bigram": "counts", "train.batch_size": 7}, 2, 1),
        ({"model.bigram": "counts", "mesh.data": 1}, 2, 1),
        ({"model.bigram": "counts", "bridge.dense": "runs/dense"}, 2, 1),
    ],
)
def test_two_devices_where_rows_are_most_of_their_work(settings, cores, devices, monkeypatch, tmp_path):
    monkeypatch.setattr(cpu_devices, "usable_cores", lambda: cores)
    config = load_config("quickstart", settings)
    assert choose(None, config, None).devices == devices
    assert choose(None, config, None, processes=2).devices == 1
    record_devices(tmp_path, 1)  # a run keeps what it had
    assert choose(None, config, tmp_path).devices == 1


def test_from_one_device_to_sixty_four_the_mesh_takes_the_most_that_divide_the_batch():
    for devices in range(1, 65):
        for batch in (1, 6, 8, 12, 64):
            data, fsdp, model = axis_sizes(MeshConfig(), devices, batch)
            assert batch % data == 0 and (fsdp, model) == (1, 1) and data <= devices
            assert not any(batch % more == 0 for more in range(data + 1, devices + 1))


def test_every_process_takes_part_in_a_mesh_that_leaves_devices_out():
    assert axis_sizes(MeshConfig(), 16, 8, processes=4) == (8, 1, 1)
    assert axis_sizes(MeshConfig(), 12, 8, processes=4) == (8, 1, 1)
    assert axis_sizes(MeshConfig(), 12, 12, processes=2) == (12, 1, 1)
    with pytest.raises(ConfigError, match="train.batch_size is 8, which 3 devices"):
        axis_sizes(MeshConfig(), 3, 8, processes=3)


@pytest.mark.parametrize(
    "asked", ["0", "-1", "2.5", "two", "", "\u0662", "auto ", "100000000000", "9" * 5000, "1025"]
)
def test_what_is_no_number_is_refused(asked):
    with pytest.raises(ConfigError, match="a number from 1 to 1024, or auto"):
        choose(asked, None, None)


@pytest.mark.parametrize("asked", ["3", "5", "6", "7", "16"])
def test_a_number_of_the_user_s_that_the_batch_does_not_allow_is_refused(asked, tmp_path):
    with pytest.raises(ConfigError, match=f"--cpu_devices is {asked}, .*give one of 1, 2, 4, 8$"):
        choose(asked, LEARNED, tmp_path)
    assert not list(tmp_path.iterdir())
    assert choose(asked, None, None).devices == int(asked)  # where nothing is trained, all can be used


def test_the_axes_of_the_user_s_decide_the_default():
    assert choose(None, training(model=4), None).devices == 4
    assert choose(None, training(data=2, fsdp=2), None).devices == 4
    assert choose(None, training(data=2, fsdp=2), None, processes=2).devices == 2
    with pytest.raises(ConfigError, match="mesh.model 4 does not divide the 2 devices"):
        choose("2", training(model=4), None)
    assert fits(4, training(model=4)) and not fits(6, training(model=4))
    assert candidates(training(model=4), 2) == [4]  # what was asked for, on however few cores


def test_a_run_keeps_what_it_had(tmp_path):
    record_devices(tmp_path, 2)
    for asked, config in ((None, LEARNED), ("auto", LEARNED), (None, None), ("auto", None)):
        devices, why = choose(asked, config, tmp_path)
        assert devices == 2 and why == f"2, as the run in {tmp_path} has had them"
    assert choose("2", LEARNED, tmp_path) == Choice(2)
    assert choose("4", LEARNED, tmp_path).why == (
        f"4; the run in {tmp_path} had 2: rounding differs from here on"
    )
    assert choose(None, training(batch_size=3), tmp_path).devices == 1  # no run of these settings is there
    record_devices(tmp_path, 4)
    assert choose(None, LEARNED, tmp_path, processes=2).devices == 2


def test_a_run_that_does_not_say_is_told_of(tmp_path):
    (tmp_path / "checkpoints/12").mkdir(parents=True)
    devices, why = choose(None, LEARNED, tmp_path)
    assert devices == 1 and "is not known" in why


def test_more_devices_must_be_clearly_faster():
    def chosen(seconds):
        asked = []

        def seconds_of(count):
            asked.append(count)
            return seconds[count]

        best, found = fastest(sorted(seconds), seconds_of)
        assert found == {count: seconds[count] for count in asked}
        return best, asked

    assert chosen({1: 1.0}) == (1, [1])
    assert chosen({1: 1.0, 2: 1.2, 4: 0.1}) == (1, [1, 2])
    assert chosen({1: 1.0, 2: 0.99, 4: 0.1}) == (1, [1, 2])  # no more than noise
    assert chosen({1: 1.0, 2: 0.7, 4: 0.5, 8: 0.6}) == (4, [1, 2, 4, 8])


def test_auto_without_a_run_or_with_several_processes(tmp_path, monkeypatch):
    assert choose("auto", None, None) == Choice(1, "1; there is no run here to measure")
    assert choose("auto", None, tmp_path).devices == 1
    with pytest.raises(ConfigError, match="measures a single process"):
        choose("auto", LEARNED, None, processes=2)
    monkeypatch.setattr(cpu_devices, "usable_cores", lambda: 1)
    assert choose("auto", LEARNED, tmp_path).devices == 1
    assert not list(tmp_path.iterdir())


def test_what_was_measured_holds_where_it_cannot_be_noted(tmp_path, monkeypatch):
    settings = types.SimpleNamespace(update=lambda name, value: None)
    monkeypatch.setattr(
        cpu_devices, "jax", types.SimpleNamespace(config=settings, default_backend=lambda: "cpu")
    )
    monkeypatch.setattr(cpu_devices, "clear_backends", lambda: None)
    monkeypatch.setattr(cpu_devices, "usable_cores", lambda: 2)
    monkeypatch.setattr(cpu_devices, "step_seconds", lambda config, steps: 0.5)
    (tmp_path / "file").write_text("")
    devices, why = choose("auto", LEARNED, tmp_path / "file" / "run")
    assert devices == 1 and "a step takes 500 ms on 1, 500 ms on 2; not noted: cannot write to" in why
    assert choose("auto", LEARNED, tmp_path / "run").why.endswith(f"noted in {tmp_path / 'run'}")
