"""Tests run on the CPU, as eight devices, so that sharding is exercised everywhere.

Compilation is most of their time, so that XLA leaves its dearest passes out, also in commands that they
start; with JAX_DISABLE_MOST_OPTIMIZATIONS=0 in the environment they test what is compiled elsewhere.
What took half a second to compile is kept for the other tests and processes of the run.
"""

import atexit
import os
import shutil
import tempfile

os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")
os.environ.setdefault("PJRT_NPROC", "16")  # collectives block threads: docs/performance.md, "CPU devices"
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.5")
if "JAX_COMPILATION_CACHE_DIR" not in os.environ:  # workers find that of the process that starts them
    os.environ["JAX_COMPILATION_CACHE_DIR"] = tempfile.mkdtemp(prefix="circuits_jax-compiled-")
    atexit.register(shutil.rmtree, os.environ["JAX_COMPILATION_CACHE_DIR"], ignore_errors=True)

import jax

jax.config.update("jax_num_cpu_devices", 8)
