"""Where a command takes its settings from: the run's own, a file that --config names, single flags."""

import dataclasses
import sys
from unittest import mock

import pytest
from absl import flags
from absl.testing import flagsaver

from circuits_jax.commands import setting_flags
from circuits_jax.config import Config
from circuits_jax.configs.finding import load_config
from circuits_jax.storage.errors import ConfigError
from circuits_jax.training.workdir import claim

OWN = dataclasses.replace(Config().prune, steps=77, tasks=("with_as",))


def settings(folder, *arguments):
    """What a command on the run in `folder` is given."""
    with flagsaver.flagsaver(), mock.patch.object(sys, "argv", ["command", *arguments]):
        setting_flags.define_config(of_runs=True)
        flags.FLAGS(setting_flags.by_files(sys.argv))
        return setting_flags.run_config(folder)


@pytest.fixture
def folder(tmp_path):
    claim(tmp_path, dataclasses.replace(Config(), prune=OWN))
    return tmp_path


def test_a_run_brings_its_own_settings_and_flags_override_them(folder):
    assert settings(folder).prune == OWN
    found = settings(folder, "--config.prune.k_coef=0.25", "--config.prune.cuts=(0.5,)")
    assert found.prune == dataclasses.replace(OWN, k_coef=0.25, cuts=(0.5,))
    assert found.audit == Config().audit


def test_settings_may_be_given_by_their_former_names(folder):
    found = settings(folder, "--config.prune.heldout_pairs=8", "--config.audit.pairs=9")
    assert (found.prune.select_pairs, found.prune.test_pairs, found.audit.pairs) == (8, 8, 9)
    assert found.prune == dataclasses.replace(OWN, select_pairs=8, test_pairs=8)


def test_a_configuration_that_is_named_takes_the_place_of_the_runs_own(folder):
    assert settings(folder, "--config=tracr") == load_config("tracr")
    named = settings(folder, "--config=quickstart", "--config.prune.steps=5")
    assert named == load_config("quickstart", {"prune.steps": 5})


@pytest.mark.parametrize(
    ("flag", "value", "bigram"),
    [("true", True, "learned"), ("False", False, "none"), ("counts", "counts", "counts")],
)
def test_a_setting_that_was_a_switch_takes_both(folder, tmp_path, flag, value, bigram):
    given = (f"--config.model.bigram={flag}", "--config.train.bigram_prior=5")
    assert settings(folder, *given).model.bigram == bigram
    assert settings(folder, "--config=quickstart", *given).model.bigram == bigram
    assert load_config("quickstart", {"model.bigram": value}).model.bigram == bigram
    (tmp_path / "mine.py").write_text(
        "from circuits_jax.configs import quickstart\n\n\ndef get_config():\n"
        f"    config = quickstart.get_config()\n    config.model.bigram = {value!r}\n    return config\n"
    )
    assert settings(folder, f"--config={tmp_path / 'mine.py'}").model.bigram == bigram
    changed = settings(folder, f"--config={tmp_path / 'mine.py'}", "--config.model.bigram=learned")
    assert changed.model.bigram == "learned"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--config.model.bigram=frozen",), "model.bigram is 'frozen'; choose one of learned, counts, none"),
        (("--config.model.bigram=counts",), "train.bigram_prior"),
        (("--config.model.bigram=3",), "model.bigram is 3"),
        (("--config.prune.stpes=5",), "stpes"),
        (("--config.nonsense=5",), "nonsense"),
        (("--config.prune.steps=0",), "prune.steps is 0"),
    ],
)
def test_settings_that_cannot_be_used_are_one_line(folder, arguments, words):
    with pytest.raises(ConfigError, match=words) as refused:
        settings(folder, *arguments)
    assert "\n" not in str(refused.value)


def test_a_folder_without_a_run_says_how_to_train_one(tmp_path):
    with pytest.raises(ConfigError, match="holds no run.*python -m circuits_jax pretrain"):
        settings(tmp_path)
