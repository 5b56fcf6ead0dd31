import json

import pytest

from circuits_jax.config import Config, PruneConfig
from circuits_jax.runs.comparison import compare_circuits
from circuits_jax.runs.corpora import settle
from circuits_jax.runs.cpu_devices import choose
from circuits_jax.storage.errors import CircuitError, ConfigError, UserError
from circuits_jax.storage.files import write_json
from circuits_jax.training.workdir import claim, claimed, load_config
from tests.training.tiny import CONFIG, replace


def test_a_claimed_folder_tells_its_configuration(tmp_path):
    claim(tmp_path / "deep" / "run", CONFIG)
    assert load_config(tmp_path / "deep" / "run") == CONFIG
    assert [path.name for path in (tmp_path / "deep" / "run").iterdir()] == ["config.json"]


def test_the_same_configuration_may_claim_again(tmp_path):
    claim(tmp_path, CONFIG)
    claim(tmp_path, CONFIG)
    assert load_config(tmp_path) == CONFIG


def test_settings_of_pruning_are_no_other_training(tmp_path):
    claim(tmp_path, CONFIG)
    other = replace(CONFIG, "prune", steps=7)
    claim(tmp_path, other)
    assert load_config(tmp_path) == other


@pytest.mark.parametrize(
    ("section", "values"),
    [
        ("model", {"n_layer": 3}),
        ("data", {"seed": 5}),
        ("data", {"roots": ("elsewhere",)}),
        ("sparsity", {"floor": 4}),
        ("optimizer", {"b1": 0.8}),
        ("train", {"steps": 13}),
    ],
)
def test_another_training_is_refused_and_its_folder_left_as_it_is(tmp_path, section, values):
    claim(tmp_path, CONFIG)
    before = (tmp_path / "config.json").read_bytes()
    with pytest.raises(ConfigError) as caught:
        claim(tmp_path, replace(CONFIG, section, **values))
    message = str(caught.value)
    (key,) = values
    for word in (str(tmp_path), f"{section}.{key}", "there", "here", "--workdir"):
        assert word in message
    assert (tmp_path / "config.json").read_bytes() == before


def test_a_folder_that_can_have_no_name_like_that_is_named(tmp_path):
    place = tmp_path / ("x" * 300)
    assert settle(CONFIG, place).data.generated_share == CONFIG.data.generated_share
    with pytest.raises(UserError, match="File name too long"), claimed(place, CONFIG):
        pass
    with pytest.raises(ConfigError, match="holds no run"):
        load_config(place)
    with pytest.raises(CircuitError, match="is no circuit of"):
        compare_circuits(["x" * 300, "y"], tmp_path)
    assert choose(None, CONFIG, place) == choose(None, CONFIG, None)


def test_a_folder_without_a_run_is_named(tmp_path):
    with pytest.raises(ConfigError, match=rf"{tmp_path}.*no config\.json.*python -m circuits_jax pretrain"):
        load_config(tmp_path)


@pytest.mark.parametrize(
    "damage",
    [
        b"",
        b'{"model": {"n_la',
        b"\xff\xfe\x00",
        b"[]",
        b"3",
        b'{"model": 3}',
        b"[" * 100_000,
        b'{"model": {"n_layer": 1' + b"0" * 5000 + b"}}",
    ],
    ids=lambda damage: repr(damage[:20]),
)
def test_a_damaged_configuration_is_named_with_the_way_out(tmp_path, damage):
    claim(tmp_path, CONFIG)
    (tmp_path / "config.json").write_bytes(damage)
    with pytest.raises(ConfigError, match="config"):
        load_config(tmp_path)
    with pytest.raises(ConfigError, match="config"):
        claim(tmp_path, CONFIG)
    assert (tmp_path / "config.json").read_bytes() == damage


def test_a_configuration_of_a_later_version_names_its_unknown_keys(tmp_path):
    claim(tmp_path, CONFIG)
    values = json.loads((tmp_path / "config.json").read_text())
    values["model"]["novelty"] = 1
    write_json(tmp_path / "config.json", values)
    with pytest.raises(ConfigError, match=r"model\.novelty"):
        load_config(tmp_path)


def test_a_configuration_of_an_earlier_version_takes_the_defaults(tmp_path):
    claim(tmp_path, Config())
    values = json.loads((tmp_path / "config.json").read_text())
    del values["prune"]["k_coef"]
    write_json(tmp_path / "config.json", values)
    assert load_config(tmp_path).prune == PruneConfig()
    claim(tmp_path, Config())


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    for workdir in (tmp_path / "file", tmp_path / "file" / "run", tmp_path / ("long" * 99)):
        with pytest.raises(UserError, match=str(workdir)):
            claim(workdir, CONFIG)
