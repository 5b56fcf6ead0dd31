"""Why a command has no device to compute on."""

import os

import jax

_VARIABLES = ("JAX_PLATFORMS", "JAX_PLATFORM_NAME")
# In place of what JAX says of a GPU that is not there: nothing, or that it does not know "rocm", the last
# kind of GPU that it tried.
_NO_GPU = (
    "JAX finds no GPU: the machine has none, its driver does not answer, or JAX lacks the package for it, "
    "which pip install 'circuits_jax[gpu]' brings"
)


def missing_device() -> str | None:
    """Why JAX has no device, and what to do, if the environment asks for one that is not there; else None."""
    try:
        jax.devices()
    except Exception as error:
        asked = " and ".join(f"{name}={os.environ[name]}" for name in _VARIABLES if os.environ.get(name))
        said = str(error).strip()
        why = _NO_GPU if not said or ("'rocm'" in said and "rocm" not in asked) else said.splitlines()[0]
        return (
            f"{asked or 'JAX'}: no such device can be used here ({why}); unset it, or set JAX_PLATFORMS=cpu"
        )
    return None
