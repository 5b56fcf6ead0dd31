"""Tests run on the CPU, as eight devices, so that sharding is exercised everywhere.

Compilation is most of their time, so that XLA leaves its dearest passes out, also in commands that they
start; with JAX_DISABLE_MOST_OPTIMIZATIONS=0 in the environment they test what is compiled elsewhere.
"""

import os

os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")
os.environ.setdefault("PJRT_NPROC", "16")  # collectives block threads: BUILD_NOTES, "CPU devices"

import jax

jax.config.update("jax_num_cpu_devices", 8)
