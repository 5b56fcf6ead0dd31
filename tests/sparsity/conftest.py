import chex
import pytest


@pytest.fixture(autouse=True)
def no_traces_yet():
    """Traces are counted by where a function stands in its file, so that each test begins at none."""
    chex.clear_trace_counter()
