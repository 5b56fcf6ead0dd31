"""The same result in every shell, and a process whose settings are left as they were."""

import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from circuits_jax.storage.surroundings import settings_of_ours, settled, settled_steps
from tests.experiments.command import ROOT
from tests.jax_settings import jax_settings

OTHERS = {
    "jax_enable_x64": True,
    "jax_default_matmul_precision": "bfloat16",
    "jax_default_prng_impl": "rbg",
    "jax_threefry_partitionable": False,
    "jax_numpy_dtype_promotion": "strict",
    "jax_numpy_rank_promotion": "raise",
    "jax_debug_nans": True,
    "jax_debug_infs": True,
    "jax_disable_jit": True,
    "jax_random_seed_offset": 7,
    "jax_transfer_guard": "disallow",
    "jax_legacy_prng_key": "error",
}
SETTLE = """
import os
from circuits_jax.storage.surroundings import settle_shell
settle_shell()
import jax, matplotlib.figure, warnings
warnings.warn("in passing")
print(jax.config.jax_enable_x64, jax.config.jax_debug_nans, jax.config.jax_compilation_cache_dir, *sorted(
    name for name in os.environ if name.startswith(("JAX_E", "JAX_D", "JAX_N", "MPL", "COL"))))
"""


def computed():
    """What depends on every one of the settings."""
    key = jax.random.PRNGKey(3)
    drawn = jax.random.normal(key, (4,)) + np.zeros((2, 4), np.float32)
    nothing = jnp.where(jnp.arange(4) > 1, jnp.log(jnp.zeros(4)), jnp.float32("nan"))
    return (
        np.asarray(drawn + jnp.arange(4)),
        np.asarray(jax.jit(lambda x: x @ x.T)(drawn)),
        np.asarray(nothing),
    )


@pytest.fixture
def elsewhere():
    """A process of other settings."""
    with jax_settings(OTHERS):
        yield


def test_results_are_those_of_a_plain_process_and_its_settings_stay(request):
    expected = computed()
    request.getfixturevalue("elsewhere")
    with pytest.raises(Exception):  # noqa: B017 - one setting or another refuses
        computed()
    for found, wanted in zip(settled(computed)(), expected, strict=True):
        assert found.dtype == wanted.dtype
        np.testing.assert_array_equal(found, wanted)

    def steps():
        yield from (jnp.arange(2).dtype for _ in range(2))

    for dtype in settled_steps(steps()):
        assert dtype == np.int32
        for name, value in OTHERS.items():
            assert getattr(jax.config, name) == value
    with pytest.raises(KeyError), settings_of_ours():
        raise KeyError
    assert jax.config.jax_enable_x64 and jax.config.jax_random_seed_offset == 7


def settle(environment):
    return subprocess.run(
        [sys.executable, "-c", SETTLE],
        cwd=ROOT,
        env={name: value for name, value in os.environ.items() if not name.startswith("JAX_")} | environment,
        capture_output=True,
        text=True,
        check=True,
    )


def test_variables_that_could_change_a_result_are_dropped_and_told():
    done = settle({
        "JAX_ENABLE_X64": "maybe", "JAX_DEBUG_NANS": "1", "JAX_NUMPY_RANK_PROMOTION": "bogus",
        "JAX_COMPILATION_CACHE_DIR": "/nowhere", "JAX_NEW_AND_UNKNOWN": "1", "MPLBACKEND": "foo",
        "COLUMNS": "1", "PYTHONWARNINGS": "error",
    })  # fmt: skip
    assert done.stdout == "False False /nowhere\n"
    assert done.stderr == (
        "not heeded: JAX_DEBUG_NANS, JAX_ENABLE_X64, JAX_NEW_AND_UNKNOWN, JAX_NUMPY_RANK_PROMOTION "
        "(results do not depend on the shell)\n"
    )


def test_other_shells_are_told_nothing():
    done = settle({"JAX_PLATFORMS": "cpu", "COLUMNS": "100"})
    assert done.stdout == "False False None COLUMNS\n" and "heeded" not in done.stderr
