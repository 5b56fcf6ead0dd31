"""`.pt` files: read without running anything, written as PyTorch writes them."""

import importlib.machinery
import io
import os
import pickle
import pickletools
import sys
import types
import zipfile
from collections import OrderedDict

import ml_dtypes
import numpy as np
import pytest
import safetensors.numpy

from circuits_jax.released.torch_files.read import read_torch_file
from circuits_jax.released.torch_files.unpickle import interpret
from circuits_jax.released.torch_files.write import write_torch_file
from circuits_jax.storage.errors import CheckpointError
from tests.released.oracle import GOLDEN

PT_CASES = ("b_sparse_rms_sink", "h_zero_wpe_default_loctypes")
TENSORS = {
    "a": np.arange(12, dtype=np.float32).reshape(3, 4),
    "b": np.arange(5, dtype=np.float16),
    "c": np.arange(6, dtype=np.float32).astype(ml_dtypes.bfloat16).reshape(1, 2, 3),
    "d": np.array([True, False]),
    "e": np.array(7, np.int64),
    "f": np.zeros((0, 3), np.float64),
}


def archive(path, program, storages=(), root="m/", compression=zipfile.ZIP_STORED):
    with zipfile.ZipFile(path, "w", compression) as file:
        file.writestr(root + "data.pkl", program)
        for key, content in enumerate(storages):
            file.writestr(f"{root}data/{key}", content)
    return path


@pytest.mark.parametrize("case", PT_CASES)
def test_reads_what_torch_wrote(case):
    read = read_torch_file(GOLDEN / case / "final_model.pt")
    expected = safetensors.numpy.load_file(GOLDEN / case / "weights.safetensors")
    assert set(read) == set(expected)
    for name, value in expected.items():
        np.testing.assert_array_equal(read[name], value)
        assert read[name].dtype == value.dtype


def test_round_trip_of_types(tmp_path):
    write_torch_file(tmp_path / "x.pt", TENSORS)
    read = read_torch_file(tmp_path / "x.pt")
    assert list(read) == list(TENSORS)
    for name, value in TENSORS.items():
        assert (read[name].dtype, read[name].shape) == (value.dtype, value.shape)
        np.testing.assert_array_equal(read[name], value)


def instructions(path):
    """The pickle's instructions without the memo, which is the writer's own affair."""
    with zipfile.ZipFile(path) as file:
        program = next(file.read(name) for name in file.namelist() if name.endswith("/data.pkl"))
    memo, seen = [], {}
    stack = []
    for opcode, argument, _ in pickletools.genops(program):
        if opcode.name in ("BINPUT", "LONG_BINPUT"):
            seen[argument] = stack[-1]
        elif opcode.name in ("BINGET", "LONG_BINGET"):
            memo.append(seen[argument])
            stack.append(seen[argument])
        else:
            item = (opcode.name.replace("BININT1", "BININT").replace("BININT2", "BININT"), argument)
            memo.append(item)
            stack.append(item)
    return [item for item in memo if item[0] in ("GLOBAL", "BINUNICODE", "BINPERSID", "REDUCE", "NEWFALSE")]


@pytest.mark.parametrize("case", PT_CASES)
def test_writes_as_torch_does(case, tmp_path):
    torchs, ours = GOLDEN / case / "final_model.pt", tmp_path / "final_model.pt"
    write_torch_file(ours, read_torch_file(torchs))
    assert instructions(ours) == instructions(torchs)
    with zipfile.ZipFile(torchs) as first, zipfile.ZipFile(ours) as second:
        storages = [name for name in first.namelist() if "/data/" in name]
        assert storages == [name for name in second.namelist() if "/data/" in name]
        for name in (*storages, "final_model/version", "final_model/byteorder"):
            assert first.read(name) == second.read(name)
        content = ours.read_bytes()
        for info in second.infolist():
            header = content[info.header_offset :]
            start = info.header_offset + 30 + len(info.filename) + int.from_bytes(header[28:30], "little")
            assert start % 64 == 0 and info.compress_type == zipfile.ZIP_STORED


def test_pythons_own_unpickler_agrees(tmp_path):
    """The pickle that we write means to a standard unpickler what it should."""

    class Standard(pickle.Unpickler):
        def find_class(self, module, name):
            known = {("torch", "FloatStorage"): "float", ("collections", "OrderedDict"): OrderedDict}
            if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
                return lambda *arguments: arguments
            return known[module, name]

        def persistent_load(self, reference):
            return reference

    write_torch_file(tmp_path / "x.pt", {"a": TENSORS["a"], "again": TENSORS["a"]})
    with zipfile.ZipFile(tmp_path / "x.pt") as file:
        read = Standard(io.BytesIO(file.read("x/data.pkl"))).load()
        assert file.read("x/data/0") == TENSORS["a"].tobytes()
        assert "x/data/1" not in file.namelist()
    expected = (("storage", "float", "0", "cpu", 12), 0, (3, 4), (4, 1), False, OrderedDict())
    assert read == {"a": expected, "again": expected}


def tensor(offset=0, shape=(2, 2), strides=(2, 1), count=4, kind=b"FloatStorage"):
    """The pickle of one tensor, as torch would write it, whatever the numbers."""

    def numbers(values):
        return b"(" + b"".join(b"J" + n.to_bytes(4, "little", signed=True) for n in values) + b"t"

    storage = b"(X\7\0\0\0storagectorch\n" + kind + b"\nX\1\0\0\0" + b"0X\3\0\0\0cpu"
    storage += b"K" + bytes([count]) + b"tQ"
    rebuilt = b"ctorch._utils\n_rebuild_tensor_v2\n(" + storage + b"K" + bytes([offset])
    rebuilt += numbers(shape) + numbers(strides)
    return b"\x80\x02" + rebuilt + b"\x89ccollections\nOrderedDict\n)RtR."


STORAGE = np.arange(4, dtype=np.float32).tobytes()


def test_views(tmp_path):
    path = archive(tmp_path / "x.pt", tensor(strides=(1, 2)), [STORAGE])
    np.testing.assert_array_equal(read_torch_file(path), [[0, 2], [1, 3]])
    path = archive(tmp_path / "x.pt", tensor(offset=1, shape=(3,), strides=(1,)), [STORAGE])
    np.testing.assert_array_equal(read_torch_file(path), [1, 2, 3])


@pytest.mark.parametrize(
    "program",
    [
        tensor(offset=1),
        tensor(shape=(3, 2)),
        tensor(strides=(3, 1)),
        tensor(strides=(-1, 1)),
        tensor(shape=(-1, 2)),
        tensor(shape=(2, 2, 2)),
        tensor(shape=(100, 100, 100), strides=(0, 0, 0)),
        tensor(count=5),
        tensor(kind=b"DoubleStorage"),
        tensor(kind=b"ComplexFloatStorage"),
    ],
)
def test_tensors_stay_inside_their_storage(program, tmp_path):
    with pytest.raises(CheckpointError):
        read_torch_file(archive(tmp_path / "x.pt", program, [STORAGE]))


class Evil:
    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize("protocol", [0, 1, 2, 3, 4, 5])
@pytest.mark.parametrize(
    ("function", "name"),
    [(os.mkdir, "mkdir"), (eval, "eval"), (getattr, "getattr"), (__import__, "__import__")],
)
def test_code_is_refused_by_name_and_does_not_run(function, name, protocol, tmp_path):
    program = pickle.dumps({"a": Evil(function, str(tmp_path / "ran"))}, protocol)
    path = archive(tmp_path / "x.pt", program)
    with pytest.raises(CheckpointError, match=name if protocol > 1 else None) as error:
        read_torch_file(path)
    assert str(path) in str(error.value) and "\n" not in str(error.value)
    assert not (tmp_path / "ran").exists()


def test_containers_of_the_standard_pickler():
    value = {"a": [1, 2.5, None, True, "x" * 300], "b": (), "c": (1, (2, 3, 4, 5)), "d": OrderedDict(k=[{}])}
    for protocol in (2, 3, 4, 5):
        assert interpret(pickle.dumps(value, protocol), None) == value


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "is empty"),
        (b"<html>Not found</html>", "not a zip"),
        (b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
        (b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.\x80\x02M", "before 1.6"),
        (b"PK\x03\x04" + b"\0" * 50, "damaged or truncated"),
    ],
)
def test_files_that_are_no_checkpoint(content, words, tmp_path, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)  # PyTorch is not installed
    path = tmp_path / "x.pt"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=words):
        read_torch_file(path)


def test_truncation_and_a_flipped_bit(tmp_path):
    whole = (GOLDEN / "h_zero_wpe_default_loctypes" / "final_model.pt").read_bytes()
    path = tmp_path / "x.pt"
    for size in (100, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:size])
        with pytest.raises(CheckpointError, match="damaged or truncated"):
            read_torch_file(path)
    path.write_bytes(whole[:5000] + bytes([whole[5000] ^ 1]) + whole[5001:])
    with pytest.raises(CheckpointError, match="CRC"):
        read_torch_file(path)


@pytest.mark.parametrize("name", ["../evil", "/etc/evil", "m/../../evil", "other/evil"])
def test_members_outside_the_folder(name, tmp_path):
    path = archive(tmp_path / "x.pt", tensor(), [STORAGE])
    with zipfile.ZipFile(path, "a") as file:
        file.writestr(name, b"")
    with pytest.raises(CheckpointError, match="outside"):
        read_torch_file(path)


def test_archives_of_another_kind(tmp_path):
    with pytest.raises(CheckpointError, match="lacks m/data/0"):
        read_torch_file(archive(tmp_path / "x.pt", tensor()))
    with pytest.raises(CheckpointError, match="compressed"):
        read_torch_file(archive(tmp_path / "x.pt", tensor(), [STORAGE], compression=zipfile.ZIP_DEFLATED))
    with zipfile.ZipFile(archive(tmp_path / "x.pt", tensor(), [STORAGE]), "a") as file:
        file.writestr("m/byteorder", "big")
    with pytest.raises(CheckpointError, match="big-endian"):
        read_torch_file(tmp_path / "x.pt")
    with pytest.raises(CheckpointError, match="0 files"):
        read_torch_file(archive(tmp_path / "x.pt", tensor(), root="m/deeper/"))


def test_shared_tuples_take_no_exponential_time(tmp_path):
    """A chain of pairs of the pair before: 2 ** 60 entries if written out, hashed or shown."""
    doubled = b"\x80\x02)q\0" + b"".join(b"h\0h\0\x86q\0" for _ in range(60))
    for use in (b"}h\0Ns.", b"h\0Q.", b"h\0h\0R."):
        with pytest.raises(CheckpointError):
            read_torch_file(archive(tmp_path / "x.pt", doubled + use))


def test_failed_writes_leave_the_old_file(tmp_path):
    path = tmp_path / "x.pt"
    write_torch_file(path, {"a": TENSORS["a"]})
    before = path.read_bytes()
    with pytest.raises(CheckpointError, match="c is complex64"):
        write_torch_file(path, {"c": np.zeros(1, np.complex64)})
    assert path.read_bytes() == before and list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    "version,safe", [("1.13.1", False), ("2.5.1+cu121", False), ("2.6.0", True), ("2.10.0", True)]
)
def test_files_of_before_archives_are_left_to_a_pytorch_that_runs_nothing(
    tmp_path, monkeypatch, version, safe
):
    asked = []
    fake = types.ModuleType("torch")
    fake.__version__, fake.Tensor = version, np.ndarray
    fake.load = lambda path, **options: asked.append(options) or {}
    fake.__spec__ = importlib.machinery.ModuleSpec("torch", None)
    monkeypatch.setitem(sys.modules, "torch", fake)
    path = tmp_path / "old.pt"
    path.write_bytes(b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.rest")
    if safe:
        assert read_torch_file(path) == {} and asked == [{"map_location": "cpu", "weights_only": True}]
    else:
        with pytest.raises(CheckpointError, match=r"install PyTorch 2\.6 or later"):
            read_torch_file(path)
        assert not asked
