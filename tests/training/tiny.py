"""A run small enough to be trained several times in a test."""

import dataclasses

import jax
import numpy as np

from circuits_jax.config import Config, DataConfig, ModelConfig, OptimizerConfig, SparsityConfig, TrainConfig
from circuits_jax.sparsity.optimizer import make_optimizer
from circuits_jax.training.loop import Trainer
from circuits_jax.training.metrics import read_metrics
from circuits_jax.training.pretraining import pretraining
from circuits_jax.training.state import make_init

CONFIG = Config(
    model=ModelConfig(n_layer=1, d_model=32, d_head=16, d_mlp=64, n_ctx=16, vocab_size=300, bigram=False),
    data=DataConfig(validation_fraction=0.25),
    sparsity=SparsityConfig(target=1 / 8, anneal_start=0.0, anneal_end=0.5, floor=1),
    optimizer=OptimizerConfig(learning_rate=3e-2, warmup=0.0),
    train=TrainConfig(steps=12, batch_size=8, log_every=2, eval_every=3, eval_batches=99, checkpoint_every=4),
)


TIMES = ("tokens_per_second", "goodput", "data_wait")  # of a row of metrics


def program(number):
    """A short program that differs with its number."""
    lines = [f"def {word}_{number}(x):\n    return x + {number * 31 % 97}\n" for word in ("alpha", "beta")]
    return f'"""Program {number}."""\n\n' + "\n\n".join(lines)


def write_programs(folder, count=24):
    """Writes `count` programs as files below `folder`."""
    folder.mkdir(parents=True)
    for number in range(count):
        (folder / f"program_{number:02}.py").write_text(program(number))


def replace(config, section, **values):
    """`config` with some values of one section changed."""
    return dataclasses.replace(config, **{section: dataclasses.replace(getattr(config, section), **values)})


def make_trainer(config, corpus, workdir):
    """The Trainer of a pretraining run."""
    return Trainer(pretraining(config), config, corpus, workdir)


def rows(workdir):
    """metrics.jsonl without what depends on the clock."""
    return [{k: v for k, v in row.items() if k not in TIMES} for row in read_metrics(workdir)]


def saved_steps(workdir):
    return sorted(int(path.name) for path in (workdir / "checkpoints").iterdir())


def make_state(config, seed=0):
    """A state no entry of which is an initial one."""
    rng = np.random.default_rng(seed)
    shapes = jax.eval_shape(make_init(config, make_optimizer(config)))

    def draw(leaf):
        if np.issubdtype(leaf.dtype, np.floating):
            return rng.normal(size=leaf.shape).astype(leaf.dtype)
        return rng.integers(1, 2**31, size=leaf.shape).astype(leaf.dtype)

    return jax.device_put(jax.tree.map(draw, shapes))


def assert_equal(first, second):
    """Two trees, bit for bit."""
    assert jax.tree.structure(first) == jax.tree.structure(second)
    for (path, a), b in zip(jax.tree_util.tree_leaves_with_path(first), jax.tree.leaves(second), strict=True):
        a, b = np.asarray(a), np.asarray(b)
        assert a.dtype == b.dtype and a.tobytes() == b.tobytes(), jax.tree_util.keystr(path)
