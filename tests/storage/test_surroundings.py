"""The same result in every shell, and a process whose settings are left as they were."""

import importlib
import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from circuits_jax import __main__ as program
from circuits_jax.commands import launching
from circuits_jax.storage.errors import ConfigError
from circuits_jax.storage.surroundings import settings_of_ours, settle_shell, settled, settled_steps
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


def test_products_are_of_float32_within_our_settings():
    with settings_of_ours():
        assert "HIGHEST" in str(jax.make_jaxpr(lambda x: x @ x)(jnp.ones((2, 2))))


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


@pytest.fixture
def shell(monkeypatch, capsys):
    """(what `settle_shell` leaves of an environment, what it tells)."""

    def settled_shell(variables):
        environment = dict(variables)
        with monkeypatch.context() as patch:
            patch.setattr(sys, "warnoptions", [])
            patch.setattr(os, "environ", environment)
            settle_shell()
        return environment, capsys.readouterr().err

    return settled_shell


def test_how_to_compile_is_not_heeded_but_for_our_tests(shell):
    quick = {"JAX_DISABLE_MOST_OPTIMIZATIONS": "1"}
    assert shell(quick) == (
        {},
        "not heeded: JAX_DISABLE_MOST_OPTIMIZATIONS (results do not depend on the shell)\n",
    )
    ours = quick | {"CIRCUITS_JAX_UNOPTIMIZED": "1"}
    assert shell(ours) == (ours, "")


@pytest.mark.parametrize(
    ("flags", "kept"),
    [
        ("--xla_cpu_use_fusion_emitters=false", True),
        ("--xla_dump_to=/tmp/x", True),
        ("--xla_gpu_all_reduce_combine_threshold_bytes=1", True),
        ("--xla_cpu_enable_fast_math=true", False),
        ("--xla_force_host_platform_device_count=8", False),
        ("--no_such_flag", False),
        ("/a/file/of/flags", False),
    ],
)
def test_xla_flags_that_could_change_a_result_are_dropped_and_told(shell, flags, kept):
    told = "" if kept else f"not heeded: XLA_FLAGS {flags} (results do not depend on the shell)\n"
    assert shell({"XLA_FLAGS": flags}) == ({"XLA_FLAGS": flags} if kept else {}, told)
    left, _ = shell({"XLA_FLAGS": f"--xla_dump_as_text  {flags} --xla_backend_optimization_level=0"})
    assert left == {"XLA_FLAGS": f"--xla_dump_as_text {flags}" if kept else "--xla_dump_as_text"}


def test_variables_of_bars_are_dropped_and_those_of_precision_told(shell):
    wide = {"COLUMNS": "9" * 5000}
    assert shell(wide | {"TQDM_MININTERVAL": "abc", "TQDM_NCOLS": "x"}) == (wide, "")
    assert shell({"NVIDIA_TF32_OVERRIDE": "0"})[1].startswith("not heeded: NVIDIA_TF32_OVERRIDE ")


@pytest.mark.parametrize("name", ["JAX_LOGGING_LEVEL", "JAX_TRACEBACK_FILTERING"])
def test_a_variable_that_jax_ends_at_is_one_line(name, monkeypatch, capsys):
    def imported(module):
        raise ValueError(f'Invalid value "zzz" for JAX flag {name.lower()}')

    monkeypatch.setenv(name, "zzz")
    monkeypatch.setattr(importlib, "import_module", imported)
    with pytest.raises(SystemExit), program._jax_told():
        pytest.fail("JAX was imported")
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f'error: JAX does not begin (Invalid value "zzz" for JAX flag {name.lower()});')
    assert name in line


@pytest.mark.parametrize("text", ["²", "٣", "abc", "-1", "1.5", "9" * 5000])
@pytest.mark.parametrize("name", ["JAX_NUM_PROCESSES", "JAX_PROCESS_ID"])
def test_a_number_of_processes_that_is_none_is_one_line(name, text, monkeypatch):
    monkeypatch.setenv(name, text)
    with pytest.raises(ConfigError, match=f"^the variable {name} is .* no number; correct it, or unset it$"):
        launching._number(name)
    for text, number in (("", None), (" 4 ", 4), ("0", 0)):
        monkeypatch.setenv(name, text)
        assert launching._number(name) == number


def test_other_shells_are_told_nothing():
    done = settle({"JAX_PLATFORMS": "cpu", "COLUMNS": "100"})
    assert done.stdout == "False False None COLUMNS\n" and "heeded" not in done.stderr
