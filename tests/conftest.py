"""Tests run on the CPU, as eight devices, so that sharding is exercised everywhere."""

import os

os.environ.setdefault("JAX_PLATFORMS", "cpu")

import jax

jax.config.update("jax_num_cpu_devices", 8)
