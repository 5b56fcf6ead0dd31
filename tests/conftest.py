"""Tests run on the CPU, as eight devices, so that sharding is exercised everywhere."""

import os

os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("PJRT_NPROC", "16")  # collectives block threads: BUILD_NOTES, "CPU devices"

import jax

jax.config.update("jax_num_cpu_devices", 8)
