"""Files that real PyTorch wrote, and PyTorch's view of ours where it is installed.

`zoo.pt` is `zoo(torch)` as saved by PyTorch 2.13; the other tests need PyTorch, which the project does not.
"""

import dataclasses
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest

from circuits_jax import released
from circuits_jax.released.state_dict import state_from_params
from circuits_jax.released.torch_files.read import read_torch_file
from circuits_jax.released.torch_files.write import write_torch_file
from circuits_jax.storage.errors import CheckpointError
from tests.released.models import TINY, VARIETY, assert_equal, random_params

ZOO = Path(__file__).parents[1] / "testdata" / "torch" / "zoo.pt"
TYPES = ("float64", "float32", "float16", "bfloat16", "int64", "int32", "int16", "int8", "uint8", "bool")
GRID = np.arange(48, dtype=np.float32).reshape(6, 8)
VIEWS = {
    "row": GRID[2],
    "column": GRID[:, 3],
    "transposed": GRID.T,
    "strided": GRID[::2, 1::3],
    "block": GRID[3:, 2:5],
    "entry": np.array(GRID[1, 1]),
    "parameter": GRID,
    "empty": np.zeros((0, 4), np.float32),
    "odd": np.array([-0.0, np.nan, np.inf, 1e-45], np.float32),
}


def zoo(torch):
    """Every type, views of one storage, a Parameter, a module's state dict and plain containers."""
    grid = torch.arange(48.0).reshape(6, 8)
    views = {
        "row": grid[2],
        "column": grid[:, 3],
        "transposed": grid.T,
        "strided": grid[::2, 1::3],
        "block": grid[3:, 2:5],
        "entry": grid[1, 1],
        "parameter": torch.nn.Parameter(grid),
        "empty": torch.zeros(0, 4),
        "odd": torch.tensor([-0.0, float("nan"), float("inf"), 1e-45]),
    }
    module = torch.nn.Linear(2, 1)
    with torch.no_grad():
        module.weight.copy_(torch.tensor([[1.0, 2.0]]))
        module.bias.copy_(torch.tensor([3.0]))
    return {
        "types": {name: torch.arange(6).reshape(2, 3).to(getattr(torch, name)) for name in TYPES},
        "views": views,
        "module": module.state_dict(),
        "plain": [1, 2.5, None, True, "é", (1, (2,)), {"a": -(2**40), 0.5: []}],
    }


def check(read):
    for name in TYPES:
        dtype = ml_dtypes.bfloat16 if name == "bfloat16" else name
        expected = np.arange(6).reshape(2, 3).astype(dtype)
        assert read["types"][name].dtype == expected.dtype
        np.testing.assert_array_equal(read["types"][name], expected)
    assert list(read["views"]) == list(VIEWS)
    for name, expected in VIEWS.items():
        found = read["views"][name]
        assert found.shape == expected.shape and found.tobytes() == expected.tobytes()
    assert {name: value.tolist() for name, value in read["module"].items()} == {
        "weight": [[1.0, 2.0]],
        "bias": [3.0],
    }
    assert read["plain"] == [1, 2.5, None, True, "é", (1, (2,)), {"a": -(2**40), 0.5: []}]


def test_reads_what_pytorch_wrote():
    check(read_torch_file(ZOO))


@pytest.fixture
def torch():
    return pytest.importorskip("torch")


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_reads_what_the_installed_pytorch_writes(torch, protocol, tmp_path):
    torch.save(zoo(torch), tmp_path / "x.pt", pickle_protocol=protocol)
    check(read_torch_file(tmp_path / "x.pt"))


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (lambda torch: torch.randn(1, 4).expand(5, 4), r"\[5, 4\] repeats its 4 entries"),
        (lambda torch: torch.randn(3, dtype=torch.complex64).conj().imag, "negated or conjugated"),
        (lambda torch: torch.randn(3, dtype=torch.complex64), "ComplexFloatStorage"),
        (lambda torch: torch.ones(3, 3).to_sparse(), "_rebuild_sparse_tensor"),
        (lambda torch: torch.nn.Linear(1, 1), "torch.nn.modules.linear.Linear"),
    ],
)
def test_refuses_by_name_what_is_no_plain_tensor(torch, value, words, tmp_path):
    torch.save({"x": value(torch)}, tmp_path / "x.pt")
    with pytest.raises(CheckpointError, match=words):
        read_torch_file(tmp_path / "x.pt")


@pytest.fixture
def legacy(torch, tmp_path):
    """Saves a value in the format of before PyTorch 1.6; the file."""

    def save(value):
        torch.save(value, tmp_path / "x.pt", _use_new_zipfile_serialization=False)
        return tmp_path / "x.pt"

    return save


def test_reads_the_format_before_zip(torch, legacy):
    check(read_torch_file(legacy(zoo(torch))))


def test_the_format_before_zip_runs_nothing_and_is_refused_in_one_line(torch, legacy, tmp_path):
    class Evil:
        def __reduce__(self):
            return (open, (str(tmp_path / "ran"), "w"))

    with pytest.raises(CheckpointError, match="PyTorch cannot read it") as caught:
        read_torch_file(legacy({"x": Evil()}))
    assert "\n" not in str(caught.value) and not (tmp_path / "ran").exists()
    path = legacy({"x": torch.zeros(200)})
    path.write_bytes(path.read_bytes()[:-300])
    with pytest.raises(CheckpointError, match="PyTorch cannot read it"):
        read_torch_file(path)


def test_without_pytorch_the_format_before_zip_is_named(legacy, monkeypatch):
    path = legacy({})
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(CheckpointError, match=r"before 1\.6; install PyTorch"):
        read_torch_file(path)


@pytest.mark.parametrize("mapped", [False, True])
@pytest.mark.parametrize("name", VARIETY)
def test_pytorch_reads_an_export_bit_for_bit(torch, name, mapped, tmp_path):
    config = VARIETY[name]
    params = random_params(config, keep=0.5)
    path = released.export(params, config, tmp_path) / "final_model.pt"
    read = torch.load(path, weights_only=True, mmap=mapped)
    expected = state_from_params(params, config)
    assert list(read) == list(expected)
    for key, value in expected.items():
        assert read[key].numpy().dtype == value.dtype and read[key].is_contiguous()
        assert read[key].numpy().tobytes() == value.tobytes()
    if config.tied_unembed:
        assert read["lm_head.weight"].data_ptr() == read["transformer.wte.weight"].data_ptr()


def test_pytorch_reads_every_type_that_we_write(torch, tmp_path):
    arrays = {
        name: np.arange(6).reshape(2, 3).astype(ml_dtypes.bfloat16 if name == "bfloat16" else name)
        for name in TYPES
    }
    write_torch_file(tmp_path / "x.pt", {"arrays": arrays, "views": VIEWS, 3: [1, None, ("é", 2**70)]})
    read = torch.load(tmp_path / "x.pt", weights_only=True)
    for name, value in arrays.items():
        assert read["arrays"][name].dtype == getattr(torch, name)
        assert read["arrays"][name].double().numpy().tolist() == value.astype(np.float64).tolist()
    for name, value in VIEWS.items():
        assert read["views"][name].numpy().tobytes() == value.tobytes()
    assert read[3] == [1, None, ("é", 2**70)]


def test_weights_that_pytorch_saved_load_as_a_model(torch, tmp_path):
    """As a training script of theirs would save them: Parameters in an ordered state dict, bfloat16."""
    config = dataclasses.replace(TINY, logits_bias=True)
    params = random_params(config)
    folder = released.export(params, config, tmp_path)
    module = torch.nn.Module()
    for number, value in enumerate(state_from_params(params, config).values()):
        module.register_parameter(str(number), torch.nn.Parameter(torch.tensor(value).bfloat16()))
    names = list(state_from_params(params, config))
    state = {names[int(key)]: value for key, value in module.state_dict(keep_vars=True).items()}
    torch.save(state, folder / "final_model.pt")
    loaded = released.load(folder)
    rounded = {"x": params["wte"]["embedding"].astype(ml_dtypes.bfloat16).astype(np.float32)}
    assert_equal({"x": loaded.params["wte"]["embedding"]}, rounded)
