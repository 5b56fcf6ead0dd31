"""Cases of which a few run always and the rest with `-m slow`."""

from collections.abc import Collection, Mapping
from typing import Any

import pytest


def quick_cases(cases: Mapping[str, Any], quick: Collection[str]) -> list[Any]:
    """The values of `cases` as parameters of a test; those whose names are not in `quick` are slow."""
    assert set(quick) <= set(cases)
    slow = pytest.mark.slow
    return [pytest.param(case, id=name, marks=() if name in quick else slow) for name, case in cases.items()]
