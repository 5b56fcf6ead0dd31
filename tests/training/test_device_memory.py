"""Running out of memory is one line: asked, available, what helps; and a new workdir is given back."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from circuits_jax.config import Config
from circuits_jax.storage.errors import MemoryLackError
from circuits_jax.training.device_memory import PRUNING, TRAINING, memory_told
from circuits_jax.training.workdir import claimed


@pytest.mark.parametrize(
    ("fails", "asked"),
    [
        (lambda: jax.jit(lambda: jnp.zeros((2**44,)))().block_until_ready(), "64.0 TiB asked for"),
        (lambda: np.zeros(2**48), "2,048.0 TiB asked for"),
        (lambda: (jnp.ones((2**40, 4)) + 1).block_until_ready(), "16.0 TiB asked for"),
    ],
)
def test_memory_that_is_really_not_there(fails, asked):
    with pytest.raises(MemoryLackError) as caught, memory_told(TRAINING):
        fails()
    line = str(caught.value)
    assert asked in line and "available" in line and "\n" not in line
    assert all(name in line for name in ("accumulate", "remat", "fsdp", "batch_size"))


# As the back ends for GPUs and TPUs word it, from their public sources and reports.
WORDINGS = {
    "RESOURCE_EXHAUSTED: Out of memory while trying to allocate 137438953472 bytes.": "128 GiB asked for",
    "RESOURCE_EXHAUSTED: Out of memory allocating 9663676416 bytes.": "9 GiB asked for",
    "RESOURCE_EXHAUSTED: Attempting to reserve 9.37G at the bottom of memory. That was not possible. There "
    "are 5.62G free, 0B reserved, and 5.62G reservable.": "9.37 GiB asked for",
    "RESOURCE_EXHAUSTED: XLA:TPU compile permanent error. Ran out of memory in memory space hbm. Used 20.50G "
    "of 15.48G hbm. Exceeded hbm capacity by 5.02G.": "20.5 GiB asked for, of 15.48 GiB that it has",
    "RESOURCE_EXHAUSTED: something new": "RESOURCE_EXHAUSTED: something new",
}


@pytest.mark.parametrize("message", WORDINGS)
def test_other_devices_wordings_are_understood(message):
    with pytest.raises(MemoryLackError, match="prune.batch_pairs") as caught, memory_told(PRUNING):
        raise jax.errors.JaxRuntimeError(message)
    assert WORDINGS[message] in str(caught.value)


def test_other_errors_stay_what_they_are():
    with pytest.raises(jax.errors.JaxRuntimeError), memory_told(TRAINING):
        raise jax.errors.JaxRuntimeError("INTERNAL: a defect")


def test_a_run_that_lacks_memory_gives_a_new_workdir_back(tmp_path):
    with pytest.raises(MemoryLackError), claimed(tmp_path, Config()):
        assert (tmp_path / "config.json").exists()
        raise MemoryLackError("too large")
    assert not (tmp_path / "config.json").exists()
    with pytest.raises(ZeroDivisionError), claimed(tmp_path, Config()):
        raise ZeroDivisionError
    with pytest.raises(MemoryLackError), claimed(tmp_path, Config()):  # it was there before
        raise MemoryLackError("too large")
    assert (tmp_path / "config.json").exists()
