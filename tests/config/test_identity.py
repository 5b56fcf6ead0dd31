"""Options added later change no hash and no comparison of what was made before them."""

import dataclasses
import hashlib
import json

import numpy as np
import pytest

from circuits_jax.config import AuditConfig, ModelConfig, PruneConfig, from_dict, to_dict
from circuits_jax.config.identity import as_recorded, identity
from circuits_jax.model.fingerprint import model_hash

PARAMS = {"a": {"kernel": np.arange(6, dtype=np.float32).reshape(2, 3)}}


def later(section, **values):
    """A release of `section` to come, with an option more."""
    names = [("added", bool | None, dataclasses.field(default=None))]
    return dataclasses.make_dataclass(section.__name__, names, bases=(section,), frozen=True)(**values)


def test_hashes_are_those_of_the_release_before():
    """Recorded by it: of the model; of the audit's settings since intervals are over templates."""
    first = "ca1787b002d0f95254ccbe79e0e819a22010edc0764567f5dbca847b9ff7d1ce"
    assert model_hash(ModelConfig(), PARAMS) == first
    second = "2e1f8b6a764246dc8ffb29edface78be334b89eacd7f80752d1da0d95dd4471e"
    assert model_hash(ModelConfig(n_layer=1, bigram=True), {}) == second
    text = json.dumps(identity(AuditConfig, to_dict(AuditConfig())), sort_keys=True)
    assert hashlib.sha256(text.encode()).hexdigest().startswith("753349d93886d2d3")


@pytest.mark.parametrize("section", [ModelConfig, PruneConfig, AuditConfig])
def test_a_new_option_counts_where_it_is_not_at_its_default(section):
    before = identity(section, to_dict(section()))
    assert set(before) - {"margin"} <= set(to_dict(section()))  # which the audit had
    new = later(section)
    assert identity(type(new), to_dict(new)) == before
    set_ = later(section, added=True)
    assert identity(type(set_), to_dict(set_)) == before | {"added": True}
    assert (
        identity(section, to_dict(new) | {"added": 1}) != before
    )  # a newer release's file, read by this one


def test_the_models_hash_follows_the_identity():
    assert model_hash(later(ModelConfig), PARAMS) == model_hash(ModelConfig(), PARAMS)
    assert model_hash(later(ModelConfig, added=True), PARAMS) != model_hash(ModelConfig(), PARAMS)
    assert model_hash(ModelConfig(n_layer=3), PARAMS) != model_hash(ModelConfig(), PARAMS)


def test_the_bigram_table_counts_as_there_or_not():
    """Of any form, and in files of any release: what it holds is covered with the other parameters."""
    there, none = (identity(ModelConfig, to_dict(ModelConfig(bigram=b))) for b in ("learned", "none"))
    assert (there["bigram"], none["bigram"]) == (True, False)
    for value, expected in ((True, there), ("counts", there), (False, none)):
        assert identity(ModelConfig, to_dict(ModelConfig()) | {"bigram": value}) == expected


def test_audits_with_the_margin_that_is_gone_are_as_those_without():
    now = to_dict(AuditConfig())
    assert "margin" not in now and from_dict(AuditConfig, now | {"margin": 0.2}) == AuditConfig()
    for margin in (0.1, 0.2):
        assert identity(AuditConfig, now | {"margin": margin}) == identity(AuditConfig, now)


def test_a_field_that_a_file_lacks_is_at_its_default():
    values = to_dict(PruneConfig())
    del values["slack"]
    assert identity(PruneConfig, values) == identity(PruneConfig, to_dict(PruneConfig()))


def test_circuits_of_before_select_pairs_were_held_are_of_other_settings():
    """Their files do not name the option; found anew with today's default they may be others."""
    old = to_dict(PruneConfig())
    del old["hold_select"]
    assert not from_dict(PruneConfig, as_recorded(PruneConfig, old)).hold_select
    as_then, now = (to_dict(PruneConfig(hold_select=held)) for held in (False, True))
    assert identity(PruneConfig, old) == identity(PruneConfig, as_then) != identity(PruneConfig, now)
    assert as_recorded(PruneConfig, now) == now
