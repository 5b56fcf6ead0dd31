"""What is said of a device that is not there."""

import re

import jax
import pytest

from circuits_jax.commands.missing_device import missing_device


@pytest.mark.parametrize(
    ("platform", "error", "why"),
    [
        ("cuda", AssertionError(), "JAX finds no GPU: the machine has none"),
        ("gpu", RuntimeError("Backend 'rocm' is not in the list of known backends"), "JAX finds no GPU"),
        (
            "rocm",
            RuntimeError("Backend 'rocm' is not in the list of known backends"),
            "list of known backends",
        ),
        ("tpu", RuntimeError("Failed to open libtpu.so\nmore"), r"\(Failed to open libtpu.so\)"),
    ],
)
def test_a_device_that_is_not_there_has_a_reason(platform, error, why, monkeypatch):
    def devices():
        raise error

    monkeypatch.setenv("JAX_PLATFORMS", platform)
    monkeypatch.setattr(jax, "devices", devices)
    message = missing_device()
    assert message.startswith(f"JAX_PLATFORMS={platform}: ") and re.search(why, message)
    assert message.endswith("unset it, or set JAX_PLATFORMS=cpu")
