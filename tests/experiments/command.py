"""Experiments run as a person runs them: a command, its exit code and what it prints."""

import os
import re
import subprocess
import sys
import time
from pathlib import Path

PROGRESS = re.compile(r"it/s|%\||, [\d:]+ gone(, [\d:?]+ to go)?$")
ROOT = Path(__file__).parents[2]
# One device, and a network that compiles in seconds.
TINY = (
    "--cpu_devices=1",
    *("--config.model.n_layer=1", "--config.model.d_model=32", "--config.model.d_mlp=32"),
    *("--config.model.n_ctx=16", "--config.model.vocab_size=300", "--config.model.activation_fraction=1"),
    *("--config.data.validation_fraction=0.25", "--config.data.generated_share=0.0"),
    "--config.train.batch_size=2",
)


def start(programs, module, *flags):
    """Starts `python -m experiments.<module>`; compiled programs are shared through the folder `programs`."""
    return start_python(programs, "-m", f"experiments.{module}", *flags)


def start_python(programs, *arguments):
    """Starts a Python program, as `start` does."""
    environment = os.environ | {
        "JAX_PLATFORMS": "cpu",
        "JAX_COMPILATION_CACHE_DIR": str(programs),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    }
    return subprocess.Popen(
        [sys.executable, *arguments],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process, timeout=300):
    """(exit code, stdout, the lines of stderr that are not progress bars)."""
    out, err = process.communicate(timeout=timeout)
    lines = (line.strip() for line in err.replace("\r", "\n").splitlines())
    return process.returncode, out, [line for line in lines if line and not PROGRESS.search(line)]


def kill_at(process, ready, timeout=300):
    """SIGKILLs `process` as soon as `ready()`; False if it had ended by itself."""
    end = time.monotonic() + timeout
    while not ready():
        if process.poll() is not None:
            return False
        assert time.monotonic() < end, "the moment to kill the process never came"
        time.sleep(0.003)
    process.kill()
    process.communicate()
    return process.returncode < 0
