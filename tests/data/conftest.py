"""A small corpus of varied files."""

from pathlib import Path

import pytest

FILES = 24


def program(number: int) -> str:
    """A short program that differs with its number."""
    words = [f"{letter}{number % 7}" for letter in ("alpha", "beta", "gamma", "delta")]
    lines = [f"def {word}_{number}(x):\n    return x + {number * 31 % 97}\n" for word in words]
    return f'"""Program {number}."""\n\n' + "\n\n".join(lines)


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of FILES programs, two of them below a subfolder."""
    root = tmp_path_factory.mktemp("tree")
    (root / "package").mkdir()
    for number in range(FILES):
        folder = root / "package" if number < 2 else root
        (folder / f"program_{number:02}.py").write_bytes(program(number).encode())
    return root
