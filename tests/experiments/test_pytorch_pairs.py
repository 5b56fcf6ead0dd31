"""Steps timed in turn with another implementation's: how the figures come about, and what is refused."""

import math
import os
import types

import numpy as np
import pytest

from circuits_jax.storage.errors import ConfigError
from experiments.benchmarks import pytorch_pairs
from experiments.benchmarks.peer_process import PeerProcess
from experiments.benchmarks.peer_steps import Peer
from experiments.benchmarks.shapes import random_pairs


@pytest.fixture
def clock(monkeypatch):
    """A clock that only works move on; it notes the pauses."""
    clock = types.SimpleNamespace(now=0.0, pauses=0)

    def sleep(seconds):
        clock.pauses += 1
        clock.now += seconds

    module = types.SimpleNamespace(sleep=sleep, perf_counter=lambda: clock.now)
    monkeypatch.setattr(pytorch_pairs, "time", module)
    return clock


def work(clock, name, seconds, calls):
    """Does steps that take `seconds`, the next one each turn, and notes the turn."""
    durations = iter(seconds)

    def steps(count):
        calls.append((name, count))
        clock.now += count * next(durations)

    return steps


def test_works_take_turns_and_the_first_two_turns_do_not_count(clock):
    calls = []
    works = {
        "PyTorch": work(clock, "PyTorch", [90, 80, 1, 2, 4], calls),
        "fast": work(clock, "fast", [70, 60, 0.5, 0.5, 0.5], calls),
        "slow": work(clock, "slow", [50, 40, 2, 4, 8], calls),
    }
    rows = pytorch_pairs.compare(works, turns=3, in_a_row=4, floor=math.nan)
    assert calls == [(name, 4) for _ in range(5) for name in works] and clock.pauses == 15
    fast, slow = rows
    assert fast == {"way": "fast", "PyTorch, ms": 2000.0, "ours, ms": 500.0, "ratio": 0.25}
    assert slow == {"way": "slow", "PyTorch, ms": 2000.0, "ours, ms": 4000.0, "ratio": 2.0}


def test_the_ratio_is_that_of_turns_that_stood_side_by_side(clock):
    first = work(clock, "PyTorch", [0, 0, 1, 10, 100], [])
    second = work(clock, "ours", [0, 0, 3, 20, 100], [])
    (row,) = pytorch_pairs.compare({"PyTorch": first, "ours": second}, turns=3, in_a_row=1, floor=5)
    assert row["of product rate"] == 0.25  # 5 s of products in a median step of 20 s
    assert row["ratio"] == 2 and row["ours, ms"] == 20_000  # the ratios are 3, 2 and 1


def test_a_folder_without_the_reimplementation_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="src/model.py"):
        Peer(str(tmp_path))


def test_its_own_process_says_so_too_and_ends(tmp_path):
    with pytest.raises(ConfigError, match="src/model.py"):
        PeerProcess(str(tmp_path))


STAND_IN = {
    "torch": """import contextlib
set_num_threads, manual_seed, no_grad = print, print, contextlib.nullcontext
from_numpy = lambda array: array
""",
    "src/sparsity": "",
    "src/config": """import types
ModelConfig = types.SimpleNamespace
class SparsityConfig(types.SimpleNamespace):
    activation_sparsity_locations = ""
""",
    "src/model": """import os
class SparseGPT:
    def __init__(self, *_):
        print("no answer")
    def __call__(self, tokens):
        with open(os.environ["CALLED"], "a") as file:
            file.write(f"{os.getpid()} {tokens.shape}\\n")
""",
}


def test_works_are_done_in_a_process_of_their_own_and_what_fails_there_is_told(tmp_path, monkeypatch):
    """A stand-in for PyTorch and its reimplementation, which has forward passes alone."""
    (tmp_path / "src").mkdir()
    for name, text in STAND_IN.items():
        (tmp_path / f"{name}.py").write_text(text)
    called = tmp_path / "called"
    monkeypatch.setenv("CALLED", str(called))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")]))
    with PeerProcess(str(tmp_path)) as peer:
        with pytest.raises(ConfigError, match="No module named 'peer.pruning.config'"):
            peer.mask_step("quickstart")
        forward = peer.forward_pass("quickstart")
        assert not called.exists()
        forward(3)
        assert called.read_text() == f"{peer._process.pid} (8, 128)\n" * 3
        peer._process.kill()
        with pytest.raises(ConfigError, match="its process ended"):
            peer.forward_pass("quickstart")


def test_random_pairs_are_the_same_each_time_and_have_an_answer_each():
    tokens, answers = random_pairs(5)
    assert tokens.shape == (64, 2, 5) and answers.shape == (64, 2)
    assert np.array_equal(tokens, random_pairs(5)[0])
    assert len(np.unique(tokens)) > 100 and np.all(answers[:, 0] != answers[:, 1])
