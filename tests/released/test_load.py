"""Where checkpoints come from, and what is said when they are no good."""

import builtins
import json
import shutil
import sys
import types

import fsspec
import numpy as np
import pytest
import safetensors.numpy

from circuits_jax import released
from circuits_jax.config import ModelConfig
from circuits_jax.data.tokenizers.bpe import train_sentencepiece
from circuits_jax.released.torch_files.read import read_torch_file
from circuits_jax.released.torch_files.write import write_torch_file
from circuits_jax.storage.errors import CheckpointError
from tests.released.models import TINY, VARIETY, assert_equal, random_params
from tests.released.oracle import GOLDEN
from tests.released.torch_files.test_read import STORAGE, archive, tensor

INDEX = "model.safetensors.index.json"


@pytest.fixture
def params():
    return random_params(TINY)


@pytest.fixture
def bucket(params, tmp_path):
    return released.export(params, TINY, tmp_path / "bucket")


@pytest.fixture
def hub(params, tmp_path):
    return released.export(params, TINY, tmp_path / "hub", "huggingface")


def shard(folder, names=("one.safetensors", "two.safetensors")):
    """Splits `model.safetensors` in two files and an index."""
    state = safetensors.numpy.load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    weights = {tensor: names[n % 2] for n, tensor in enumerate(state)}
    for name in names:
        part = {tensor: state[tensor] for tensor in state if weights[tensor] == name}
        safetensors.numpy.save_file(part, folder / name)
    (folder / INDEX).write_text(json.dumps({"metadata": {}, "weight_map": weights}))


def test_single_files(bucket, hub, params):
    assert_equal(released.load(bucket / "final_model.pt").params, params)
    assert_equal(released.load(str(hub / "model.safetensors")).params, params)
    shutil.move(bucket / "beeg_config.json", bucket / "config.json")
    assert_equal(released.load(bucket / "final_model.pt").params, params)


def test_shards(hub, params):
    shard(hub)
    assert_equal(released.load(hub).params, params)
    assert_equal(released.load(hub / INDEX).params, params)


@pytest.mark.parametrize("name", ["../one.safetensors", "/etc/passwd", "a/b.safetensors", "..", "x.pt", 3])
def test_shards_outside_the_folder(hub, name):
    (hub / "model.safetensors").unlink()
    (hub / INDEX).write_text(json.dumps({"weight_map": {"a": name}}))
    with pytest.raises(CheckpointError, match="no .safetensors file of its own folder"):
        released.load(hub)


def test_a_missing_shard(hub):
    shard(hub)
    (hub / "two.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"two\.safetensors"):
        released.load(hub)


@pytest.fixture
def remote():
    files = fsspec.filesystem("memory")
    yield files
    files.rm("/", recursive=True)


@pytest.mark.parametrize("sharded", [False, True])
def test_urls(hub, bucket, params, remote, sharded):
    if sharded:
        shard(hub)
    remote.put(f"{hub}/", "/models/hub/", recursive=True)
    remote.put(f"{bucket}/", "/models/bucket/", recursive=True)
    assert_equal(released.load("memory://models/hub").params, params)
    assert_equal(released.load("memory://models/bucket/").params, params)
    assert_equal(released.load("memory://models/bucket/final_model.pt").params, params)


def test_urls_of_nothing(hub, remote):
    with pytest.raises(CheckpointError, match="holds no weights"):
        released.load("memory://models/hub")
    shard(hub)
    (hub / "one.safetensors").unlink()
    remote.put(f"{hub}/", "/models/hub/", recursive=True)
    with pytest.raises(CheckpointError, match=r"lacks the shard one\.safetensors"):
        released.load("memory://models/hub")
    with pytest.raises(CheckpointError, match="nosuch://x"):
        released.load("nosuch://x")


class Web(fsspec.AbstractFileSystem):
    """A stand-in for fsspec's file system of https://, which keeps the whole address as the path."""

    served: dict[str, bytes] = {}

    @classmethod
    def _strip_protocol(cls, path):
        return path.rstrip("/")

    def get_file(self, path, local, **options):
        if path not in self.served:
            raise FileNotFoundError(path)
        with open(local, "wb") as file:
            file.write(self.served[path])


class Bucket(Web):
    """One for gs://, which drops the scheme."""

    protocol = ("gs", "gcs")

    @classmethod
    def _strip_protocol(cls, path):
        return path.partition("://")[2].rstrip("/")


class Unplugged(Web):
    def get_file(self, path, local, **options):
        raise OSError(f"no route to {path}\nand more")


@pytest.fixture
def network(monkeypatch):
    def serve(scheme, kind, served):
        kind = type(kind.__name__, (kind,), {"served": served, "cachable": False})
        monkeypatch.setitem(sys.modules["fsspec.registry"]._registry, scheme, kind)

    return serve


@pytest.mark.parametrize(
    ("scheme", "kind", "root"),
    [("https", Web, "https://host/models"), ("gs", Bucket, "bucket/models"), ("gcs", Bucket, "b/models")],
)
def test_web_and_buckets(scheme, kind, root, bucket, hub, params, network):
    network(scheme, kind, {f"{root}/{f.parent.name}/{f.name}": f.read_bytes() for f in bucket.iterdir()})
    url = root if "://" in root else f"{scheme}://{root}"
    assert_equal(released.load(f"{url}/bucket").params, params)
    assert_equal(released.load(f"{url}/bucket/final_model.pt").params, params)
    with pytest.raises(CheckpointError, match=f"{url}/elsewhere holds no weights"):
        released.load(f"{url}/elsewhere")
    shard(hub)
    network(scheme, kind, {f"{root}/{f.parent.name}/{f.name}": f.read_bytes() for f in hub.iterdir()})
    assert_equal(released.load(f"{url}/hub").params, params)


def test_a_network_that_fails(network):
    network("https", Unplugged, {})
    with pytest.raises(CheckpointError, match="https://host/m cannot be fetched: no route to https") as error:
        released.load("https://host/m")
    assert "\n" not in str(error.value)


def test_a_truncated_download(bucket, network):
    served = {f"https://host/m/{f.name}": f.read_bytes() for f in bucket.iterdir()}
    served["https://host/m/final_model.pt"] = served["https://host/m/final_model.pt"][:-100]
    network("https", Web, served)
    with pytest.raises(CheckpointError, match="truncated"):
        released.load("https://host/m")


def test_hub_names_without_huggingface_hub(monkeypatch):
    real = builtins.__import__

    def without(name, *arguments, **keywords):
        if name.startswith("huggingface_hub"):
            raise ImportError(name)
        return real(name, *arguments, **keywords)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(CheckpointError, match="pip install huggingface_hub"):
        released.load("hf:openai/circuit-sparsity")


def test_hub_names(hub, params, monkeypatch):
    """With a stand-in for huggingface_hub, which is asked for the pinned revision."""
    asked = []

    class HfHubHTTPError(OSError):
        pass

    def snapshot_download(repository, revision, allow_patterns):
        asked.append((repository, revision))
        if repository == "no/where":
            raise HfHubHTTPError("404\nmore")
        assert {"config.json", "model.safetensors", INDEX, "encoder.json"} <= set(allow_patterns)
        return str(hub)

    errors = types.ModuleType("huggingface_hub.errors")
    errors.HfHubHTTPError = errors.HFValidationError = errors.LocalEntryNotFoundError = HfHubHTTPError
    module = types.ModuleType("huggingface_hub")
    module.snapshot_download, module.errors = snapshot_download, errors
    monkeypatch.setitem(sys.modules, "huggingface_hub", module)
    monkeypatch.setitem(sys.modules, "huggingface_hub.errors", errors)
    assert_equal(released.load("hf:openai/circuit-sparsity@0123abc").params, params)
    assert_equal(released.load("hf:openai/circuit-sparsity").params, params)
    assert asked == [("openai/circuit-sparsity", "0123abc"), ("openai/circuit-sparsity", None)]
    with pytest.raises(CheckpointError, match="hf:no/where cannot be fetched: 404 more$"):
        released.load("hf:no/where")


def test_nothing_there(tmp_path, bucket):
    with pytest.raises(CheckpointError, match="does not exist"):
        released.load(tmp_path / "nowhere")
    with pytest.raises(CheckpointError, match="does not exist"):
        released.load("x" * 5000)  # longer than a name may be
    with pytest.raises(CheckpointError, match="holds no weights"):
        released.load(tmp_path)
    (bucket / "beeg_config.json").unlink()
    with pytest.raises(CheckpointError, match=r"beeg_config\.json or config\.json"):
        released.load(bucket)
    with pytest.raises(CheckpointError, match="unknown kind"):
        (tmp_path / "model.onnx").touch()
        (tmp_path / "config.json").write_text("{}")
        released.load(tmp_path / "model.onnx")


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff\xfe", b"[" * 100_000])
def test_configurations_that_are_no_json_object(bucket, content):
    (bucket / "beeg_config.json").write_bytes(content)
    with pytest.raises(CheckpointError, match=r"beeg_config\.json"):
        released.load(bucket)


@pytest.mark.parametrize("size", [0, 4, 100, -1])
@pytest.mark.parametrize("name", ["final_model.pt", "model.safetensors"])
def test_truncated_weights(bucket, hub, name, size):
    path = (bucket if name == "final_model.pt" else hub) / name
    path.write_bytes(path.read_bytes()[:size])
    with pytest.raises(CheckpointError, match="empty" if size == 0 else name) as error:
        released.load(path.parent)
    assert "\n" not in str(error.value)


def test_errors_name_the_file(bucket, hub):
    values = json.loads((hub / "config.json").read_text())
    (hub / "config.json").write_text(json.dumps(values | {"sink": False}))
    with pytest.raises(CheckpointError, match=r"model\.safetensors: .*sink_logit"):
        released.load(hub)
    (hub / "config.json").write_text(json.dumps(values | {"sinks": True}))
    with pytest.raises(CheckpointError, match=r"config\.json: unknown config keys sinks"):
        released.load(hub)
    with pytest.warns(UserWarning, match="sinks"):
        released.load(hub, strict=False)


def test_a_sink_without_its_logits(bucket):
    values = json.loads((GOLDEN / "a_gpt2_dense" / "config.json").read_text()) | {"sink": True}
    (bucket / "beeg_config.json").write_text(json.dumps(values))
    shutil.copy(GOLDEN / "a_gpt2_dense" / "weights.safetensors", bucket)
    with pytest.raises(CheckpointError, match="missing tensors: .*sink_logit"):
        released.load(bucket / "weights.safetensors")


def test_pickles_that_are_no_state_dict(bucket):
    programs = (b"].", b"}.", b"}X\1\0\0\0aK\1s.", b"}K\1K\1s.")
    for program in (*(b"\x80\x02" + each for each in programs), tensor()):
        archive(bucket / "final_model.pt", program, [STORAGE])
        with pytest.raises(CheckpointError, match="no state dict"):
            released.load(bucket)


@pytest.mark.parametrize(
    "wrapper",
    [
        "module.", "_orig_mod.", "model.", "module._orig_mod.", "_orig_mod.module.", "model.circuit_model.",
        "module.module._orig_mod.model.",
    ],
)  # fmt: skip
def test_models_saved_in_their_wrappers(bucket, params, wrapper):
    state = read_torch_file(bucket / "final_model.pt")
    wrapped = {wrapper + name: np.array(value) for name, value in state.items()}
    write_torch_file(bucket / "final_model.pt", wrapped)
    assert_equal(released.load(bucket).params, params)
    # What only some names have is no wrapper.
    first, *others = wrapped
    write_torch_file(
        bucket / "final_model.pt", {first[1:]: wrapped[first], **{name: wrapped[name] for name in others}}
    )
    with pytest.raises(CheckpointError, match="named|lacks|missing|tensors"):
        released.load(bucket)


def test_a_configuration_with_a_byte_order_mark(bucket, params):
    config = bucket / "beeg_config.json"
    config.write_bytes(b"\xef\xbb\xbf" + config.read_bytes())
    assert_equal(released.load(bucket).params, params)


def test_float64_is_refused_by_name(hub):
    state = safetensors.numpy.load_file(hub / "model.safetensors")
    state["circuit_model.lm_head.weight"] = state["circuit_model.lm_head.weight"].astype(np.float64)
    safetensors.numpy.save_file(state, hub / "model.safetensors")
    with pytest.raises(CheckpointError, match=r"lm_head\.weight is float64"):
        released.load(hub)


def test_logits_bias_is_what_the_file_holds(tmp_path):
    config = VARIETY["sparse"]
    folder = released.export(random_params(config), config, tmp_path, "huggingface")
    assert released.load(folder).config.logits_bias
    state = safetensors.numpy.load_file(folder / "model.safetensors")
    del state["circuit_model.final_logits_bias"]
    safetensors.numpy.save_file(state, folder / "model.safetensors")
    checkpoint = released.load(folder)
    assert not checkpoint.config.logits_bias and "logits_bias" not in checkpoint.params


def test_a_sentencepiece_tokenizer_beside_the_model(tmp_path):
    config = ModelConfig(n_layer=1, d_model=8, n_ctx=6, vocab_size=300, d_head=4, bigram=False)
    tokenizer = train_sentencepiece(["def f(x):\n    return x + 1\n"] * 50, 285, ())
    folder = released.export(random_params(config), config, tmp_path, tokenizer=tokenizer)
    assert released.load(folder).tokenizer.hash == tokenizer.hash
    (folder / "tokenizer.model").write_bytes(b"")
    with pytest.raises(CheckpointError, match=r"tokenizer\.model"):
        released.load(folder)
