"""The same steps by a PyTorch reimplementation, of which a copy was fetched.

Its modules are imported from where they lie and do all that is timed.  What `pytorch_pairs` says of the two
sides' work is said of the calls here.
"""

import importlib
import itertools
import sys
import types
from collections.abc import Iterable
from typing import Any

import numpy as np

from circuits_jax.storage.cores import usable_cores
from circuits_jax.storage.errors import ConfigError
from circuits_jax.storage.paths import as_path
from experiments.benchmarks.our_steps import Work
from experiments.benchmarks.shapes import (
    BRIDGED,
    DENSE_WIDTH,
    FLOOR,
    KEPT,
    PROMPT,
    SIZES,
    VOCABULARY,
    random_pairs,
    random_tokens,
)

PEER = "peer"  # the package that its modules import each other by, without what its own __init__ asks for
STEPS = 1000  # of a run


class Peer:
    """The reimplementation, with as many threads as this process may use cores.

    Args:
      folder: The copy.

    Raises:
      ConfigError: here and in every method, if the copy or a package that it needs is not there.
    """

    def __init__(self, folder: str):
        source = as_path(folder) / "src"
        if not (source / "model.py").exists():
            raise ConfigError(f"--pytorch is {folder!r}, which has no src/model.py; give a copy of it")
        for name, path in ((PEER, source), (f"{PEER}.pruning", source / "pruning")):
            package = types.ModuleType(name)
            package.__path__ = [str(path)]
            sys.modules[name] = package
        self._torch: Any = _imported("torch")
        self._torch.set_num_threads(usable_cores())
        self._torch.manual_seed(0)
        self._sparsity = _imported(f"{PEER}.sparsity")

    def train_step(self, size: str) -> Work:
        """Training steps of a size of SIZES."""
        network = self._network(SIZES[size])
        windows, cross_entropy = self._windows(SIZES[size]), self._torch.nn.functional.cross_entropy
        update = self._update(network, network.parameters())

        def step() -> None:
            logits = network(windows[:, :-1])[0]
            cross_entropy(logits.flatten(0, 1), windows[:, 1:].flatten()).backward()
            update()

        return lambda steps: [step() for _ in range(steps)]

    def forward_pass(self, size: str) -> Work:
        """Forward passes of a size of SIZES."""
        network, tokens = self._network(SIZES[size]), self._windows(SIZES[size])[:, :-1]

        def work(passes: int) -> None:
            with self._torch.no_grad():
                for _ in range(passes):
                    network(tokens)

        return work

    def bridge_step(self) -> Work:
        """Training steps of bridges and the sparse model, with all five of its losses."""
        bridging = _imported(f"{PEER}.bridges")
        layers, width, length, batch = BRIDGED
        sparse = self._network(BRIDGED, also=("resid_mid", "resid_pre"))
        dense = self._network((layers, DENSE_WIDTH, length, batch), dense=True)
        dense.eval().requires_grad_(False)
        bridges = bridging.BridgeSet(layers, DENSE_WIDTH, width)
        windows, cross_entropy = self._windows(BRIDGED), self._torch.nn.functional.cross_entropy
        tokens, following = windows[:, :-1], windows[:, 1:]
        update = self._update(sparse, itertools.chain(sparse.parameters(), bridges.parameters()))

        def step() -> None:
            with self._torch.no_grad():
                taught, below, _ = dense.forward_with_bridge_sites(tokens)
            logits, before, after = sparse.forward_with_bridge_sites(tokens)
            teacher = bridging.KLTargetCache(taught)
            hybrids = bridging.compute_hybrid_kl_losses(dense, sparse, bridges, below, before, taught, tokens)
            loss = cross_entropy(logits.flatten(0, 1), following.flatten())
            loss = loss + bridging.kl_divergence(taught, logits, target_cache=teacher)
            loss = loss + bridging.compute_bridge_nmse_loss(below, before, after, bridges).total
            (loss + hybrids.total).backward(retain_graph=True)
            hybrids.release_gradients()
            update()

        return lambda steps: [step() for _ in range(steps)]

    def mask_step(self, size: str) -> Work:
        """Pruning steps, of masks over all nodes of a size of SIZES."""
        torch, pruning = self._torch, _imported(f"{PEER}.pruning.config")
        masked = _imported(f"{PEER}.pruning.masked_model").MaskedSparseGPT
        trainer = _imported(f"{PEER}.pruning.trainer").PruningTrainer
        prompts, answers = map(_long, random_pairs(PROMPT))
        batch = [prompts.reshape(-1, PROMPT)] * 2 + [answers.flatten(), answers[:, ::-1].flatten()]
        batch = [torch.from_numpy(array.copy()) for array in [*batch, np.full(len(batch[0]), PROMPT - 1)]]
        settings = pruning.PruningConfig(device="cpu", batch_size=len(batch[0]), use_binary_loss=True)
        network = masked(self._network(SIZES[size]), settings)
        network.set_means_from_dict(
            {name: torch.zeros(mask.num_nodes) for name, mask in network.masks.masks.items()}
        )
        task = types.SimpleNamespace(generate_batch=lambda **_: batch)
        step = trainer(network, task, settings).train_step
        return lambda steps: [step() for _ in range(steps)]

    def _network(
        self, shape: tuple[int, int, int, int], dense: bool = False, also: tuple[str, ...] = ()
    ) -> Any:
        """A network of random weights, `dense` without AbsTopK, or with it at further locations, too."""
        layers, width, length, _ = shape
        configs, models = _imported(f"{PEER}.config"), _imported(f"{PEER}.model")
        locations = configs.SparsityConfig().activation_sparsity_locations
        return models.SparseGPT(
            configs.ModelConfig(n_layer=layers, d_model=width, n_ctx=length, vocab_size=VOCABULARY),
            configs.SparsityConfig(
                enable_weight_sparsity=not dense,
                enable_activation_sparsity=not dense,
                activation_sparsity_locations=",".join((locations, *also)),
            ),
        )

    def _windows(self, shape: tuple[int, int, int, int]) -> Any:
        _, _, length, batch = shape
        return self._torch.from_numpy(_long(random_tokens(batch, length + 1)))

    def _update(self, network: Any, trained: Iterable[Any]) -> Any:
        """What follows a backward pass: the gradient's RMS, AdamW as it sets it up, and the projection of
        `network`."""
        trained = list(trained)
        optimizer = self._torch.optim.AdamW(
            trained, lr=1e-2, betas=(0.9, 0.95), eps=0.1, weight_decay=0.1, fused=True
        )
        sparsifier = self._sparsity.WeightSparsifier(network, KEPT, 0.0, 0.0, FLOOR, STEPS)

        def update() -> None:
            self._sparsity.normalize_grad_rms_(trained, 1.0)
            optimizer.step()
            optimizer.zero_grad()
            sparsifier.step()

        return update


def _imported(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise ConfigError(
            f"the PyTorch reimplementation cannot be used: {error}; install what it needs beside circuits_jax"
        ) from error


def _long(array: np.ndarray) -> np.ndarray:
    return array.astype(np.int64)
