"""What setup.py asks for: what is imported and no more, and nothing that would replace the JAX of Colab."""

import ast
import importlib.metadata
import pathlib
import sys

from packaging.requirements import Requirement

import circuits_jax

PACKAGE = pathlib.Path(circuits_jax.__file__).parent
COLAB = PACKAGE.parent / "tests" / "testdata" / "colab.txt"
# Imported where the user has asked for what needs them: {module: the extra that brings it}.
OPTIONAL = {
    "huggingface_hub": "hub",
    "tiktoken": "openai",
    "tensorboardX": "tensorboard",
    "pyarrow": "parquet",
    "haiku": "tracr",
    "tracr": "tracr",
}
# Too large for an extra: asked for in one line where a checkpoint of the oldest layout is read.
THE_USERS_OWN = {"torch"}
# Declared for the sake of TensorFlow Datasets and of JAX, as setup.py explains.
NOT_IMPORTED = {"array_record", "filelock", "tensorflow-metadata"}
MODULES_OF = {
    "absl": "absl-py",
    "haiku": "dm-haiku",
    "orbax": "orbax-checkpoint",
    "tensorflow_datasets": "tensorflow-datasets",
    "tracr": "tracr-pypi",
}


def requirements(extra: str = "") -> dict[str, Requirement]:
    """{name: requirement} of the installed package."""
    found = (Requirement(text) for text in importlib.metadata.requires("circuits_jax") or ())
    return {
        each.name: each for each in found if each.marker is None or each.marker.evaluate({"extra": extra})
    }


def imported() -> set[str]:
    """Names of all packages that the library imports, wherever in a module."""
    names = set()
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Import):
                names |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                names.add(node.module.partition(".")[0])
    return names - set(sys.stdlib_module_names) - {"circuits_jax", "experiments"} - THE_USERS_OWN


def test_all_that_is_imported_is_declared():
    for name in sorted(imported()):
        extra = OPTIONAL.get(name, "")
        assert MODULES_OF.get(name, name) in requirements(extra), f"{name}: add it to setup.py"


def test_all_that_is_declared_is_imported():
    used = imported()
    names = {MODULES_OF.get(name, name) for name in used}
    assert set(requirements()) - names == NOT_IMPORTED
    assert set(OPTIONAL) <= used


def test_on_colab_nothing_that_fits_is_replaced():
    asked = requirements()
    for line in COLAB.read_text("utf-8").splitlines():
        name, _, version = line.partition("==")
        if name in asked:
            assert asked[name].specifier.contains(version), f"{asked[name]} would replace {line}"
        else:
            assert line.startswith("#") or name == "jaxlib"
