"""Which settings a hash or a comparison covers, so that an option added later changes nothing that was there.

Version 1 covers all fields of the first release, and a field added since only where it is not at its default
(or, where that changed what is done, not at what was done before).
If another version ever covers something else, its identity has to begin with its number, so that it never
equals one of version 1 by chance.
"""

from collections.abc import Callable, Mapping
from typing import Any

from circuits_jax.config.conversion import to_dict

# The fields that every hash of version 1 has covered.  Never added to: that would change all hashes.
# (Pruning's heldout_pairs is gone: a circuit of that setting is of other pairs than any of now.
# So are the audit's resamples: audits with them need to be made anew.)
_VERSION_1 = {
    "ModelConfig": (
        "n_layer d_model n_ctx vocab_size d_head n_head d_mlp norm activation residual_activation position "
        "d_pos bias norm_bias tied_unembed attention_sink bigram logits_bias activation_fraction "
        "activation_locations dtype"
    ),
    "PruneConfig": (
        "tasks steps batch_pairs train_pairs k_coef learning_rate weight_decay b2 init_mean "
        "init_std temperature target slack ablation mean_batches seed batching cuts trials seeds edge_steps "
        "importance_pairs importance_nodes"
    ),
    "AuditConfig": (
        "pairs draws natural natural_context confidence seeds sufficient necessary flips_inside "
        "flips_outside control_share margin seed"
    ),
    "ReadingsConfig": "pairs choose_pairs draws recovery coverage effect seed",
}
# Fields that version 1 had in another form.  Of the bigram table it said whether there is one: how the table
# came about changes nothing that a network computes, and its entries are covered with the other parameters.
# The audit's margin is gone.  It decided a word and no figure, so that all audits are as with its default.
_AS_IN_VERSION_1: dict[str, Callable[[Any], Any]] = {
    "bigram": lambda value: value not in (False, "none"),
    "margin": lambda value: 0.1,
}
# What it means that a file does not have a field, where that is not today's default: what was done before.
_UNSAID: dict[str, dict[str, Any]] = {"PruneConfig": {"hold_select": False}}


def as_recorded(section: type, values: Any) -> Any:
    """Settings as a file of any release records them, with those that it could not name yet."""
    if not isinstance(values, Mapping):
        return values  # a file may hold anything: whoever builds `section` of it says what is wrong
    return _UNSAID.get(section.__name__, {}) | dict(values)


def identity(section: type, values: Mapping[str, Any]) -> dict[str, Any]:
    """What says which settings these are: two tables mean the same settings if their identities are equal.

    Args:
      section: Of `circuits_jax.config`: ModelConfig, PruneConfig, AuditConfig or
        ReadingsConfig.
      values: A table of it, as `to_dict` gives it or a file of any release has it.

    Returns:
      The fields of version 1, then others that are not at the value that a file without them means, by name.
    """
    first = next(_VERSION_1[kind.__name__] for kind in section.__mro__ if kind.__name__ in _VERSION_1).split()
    defaults = to_dict(section())
    unsaid = as_recorded(section, {})
    later = {
        name: value
        for name, value in sorted(values.items())
        if name not in first and not (name in defaults and value == unsaid.get(name, defaults[name]))
    }
    covered = {name: values.get(name, defaults.get(name)) for name in first}
    return {name: _AS_IN_VERSION_1.get(name, _same)(value) for name, value in covered.items()} | later


def _same(value: Any) -> Any:
    return value
