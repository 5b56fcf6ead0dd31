"""The training loop: batches in, a trained state out, on any mesh, killed and resumed at will."""

import contextlib
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from circuits_jax.config import Config
from circuits_jax.data.batches import make_batches, make_iterator
from circuits_jax.data.corpus import Corpus
from circuits_jax.data.windows import Windows
from circuits_jax.model.parameters import parameter_name
from circuits_jax.model.transformer import Params
from circuits_jax.storage import stopping
from circuits_jax.storage.errors import CheckpointError, DivergenceError
from circuits_jax.storage.progress import ProgressBar
from circuits_jax.training.checkpoints import Checkpoints
from circuits_jax.training.devices import record_devices
from circuits_jax.training.goodput import Goodput
from circuits_jax.training.layout import (
    as_saved,
    as_trained,
    batch_shape,
    first_state,
    jit_functions,
    make_layout,
    place,
)
from circuits_jax.training.mesh import meshes
from circuits_jax.training.metrics import MetricsWriter
from circuits_jax.training.multihost.processes import fetch, is_primary, wait_for_all
from circuits_jax.training.multihost.stopping import StopVote
from circuits_jax.training.plan import Pace, describe, plan
from circuits_jax.training.profiling import Profiler
from circuits_jax.training.program import Metrics, Program
from circuits_jax.training.snapshots import snapshot_steps
from circuits_jax.training.state import TrainState


class _Instruments(NamedTuple):
    """What watches and guides a run."""

    writer: MetricsWriter
    bar: ProgressBar
    profiler: Profiler
    stop: StopVote
    holding: contextlib.ExitStack
    goodput: Goodput


class Trainer:
    """One run's compiled functions, data and files; `run` takes it to its last step.

    It knows nothing of what it trains: a `Program` tells it.  Of the configuration it reads the sections
    `train`, `mesh`, `profile` and the seed of `data`.
    """

    def __init__(
        self, program: Program, config: Config, corpus: Corpus, workdir: Path, tensorboard: bool = False
    ):
        self.program, self.config = program, config
        self._workdir, self._tensorboard = workdir, tensorboard
        self.layout = layout = make_layout(program, config)
        self._frozen = place(program.frozen, layout.frozen)
        self.step, self.steps, self._evaluate, self._measure = jit_functions(program, layout)
        self._mine = meshes.local_rows(layout.mesh, config.train.batch_size)
        self._batches = make_batches(corpus.train, config.train.batch_size, config.data.seed, self._mine)
        self._validation = self._fixed_batches(corpus.validation)
        self._bits_per_byte = bits_per_byte(corpus.validation.counts)
        self._checkpoints = Checkpoints(workdir, config.train.keep_checkpoints, config.train.keep_best)
        self._kept = snapshot_steps(config.train.snapshots, config.train.steps)

    def run(self) -> TrainState:
        """Trains from the newest checkpoint, or from the start, to the last step.

        Returns:
          The last state, its layers apart.

        Raises:
          DivergenceError: if the loss is not finite; the step is named and earlier checkpoints stay.
          CheckpointError: if no checkpoint can be read, the newest is of another model, or one cannot be
            written.
          Stopped: when the run was asked to stop (`storage.stopping`); its state is saved.
        """
        with stopping.watched(), contextlib.ExitStack() as holding, contextlib.closing(self._checkpoints):
            goodput = Goodput()
            with goodput.spent():
                state = self._start()
            first, steps = int(state.step), self.config.train.steps
            if first < steps:
                record_devices(self._workdir, self.layout.mesh.size)
            if first < steps and is_primary():
                print(describe(plan(self.layout, self.config)))
            bar = ProgressBar(
                total=steps, initial=first, desc="train", unit="step", disable=not is_primary(), mininterval=1
            )
            with goodput.spent():
                self._compile(state)
            with (
                MetricsWriter(self._workdir, first, self._tensorboard) as writer,
                Profiler(self.config.profile.steps, self._workdir) as profiler,
                contextlib.closing(make_iterator(self._batches, first, self.config.mesh.workers)) as batches,
                bar,
            ):
                instruments = _Instruments(writer, bar, profiler, StopVote(first), holding, goodput)
                state = self._loop(state, first, batches, instruments)
        return as_saved(state, self.layout)

    def _start(self) -> TrainState:
        if self._checkpoints.latest is None:
            return first_state(self.program, self.layout)

        def fresh() -> TrainState:
            return as_saved(first_state(self.program, self.layout), self.layout)

        state = self._checkpoints.restore(self.layout.saved, fresh)
        self._refuse_not_finite(state)
        return as_trained(state, self.layout)

    def _refuse_not_finite(self, state: TrainState) -> None:
        """Raises CheckpointError if parameters that were read hold NaN or infinity."""
        whole = jax.jit(
            lambda params: jax.tree.map(lambda leaf: jnp.isfinite(leaf).all(), params),
            out_shardings=self.layout.whole,
        )
        leaves = jax.tree_util.tree_leaves_with_path(jax.device_get(whole(state.params)))
        bad = [parameter_name(path) for path, finite in leaves if not finite]
        if bad:
            raise CheckpointError(
                f"checkpoint {int(state.step)} in {self._workdir / 'checkpoints'} holds NaN or infinity, in "
                f"{', '.join(bad[:3])}: no run can go on from it; move its folder elsewhere to go on from an "
                "earlier one"
            )

    def _compile(self, state: TrainState) -> None:
        """Compiles all before the first exchange between processes, which late ones would miss."""
        if jax.process_count() == 1:
            return
        rows = batch_shape(self.config, self.layout)
        self.step.lower(state, rows, self._frozen).compile()
        if (together := self.config.mesh.steps_at_once) > 1:
            self.steps.lower(state, (rows,) * together, self._frozen).compile()
        self._evaluate.lower(state.params, rows, self._frozen).compile()
        self._measure.lower(state.params).compile()
        wait_for_all("compiled")

    def _loop(
        self,
        state: TrainState,
        first: int,
        batches: Iterator[np.ndarray],
        instruments: _Instruments,
    ) -> TrainState:
        writer, bar, profiler, stop, holding, goodput = instruments
        train = self.config.train
        pace = Pace(self.config, self.program.flops_per_token, first, self.layout.mesh.size)
        pending: tuple[int, Metrics] | None = None
        step, called = first, set[int]()
        while step < train.steps:
            profiler.before(step + 1)
            count = self._steps_ahead(step)
            with goodput.waiting():
                rows = [self._put(next(batches)) for _ in range(count)]
            with contextlib.nullcontext() if count in called else goodput.spent():  # compiled, then
                state, metrics = self._take(state, rows)
            step, new = step + count, not called
            called.add(count)
            if new:  # compiled, and from here on there is something to lose
                holding.enter_context(stopping.held(then_stop=jax.process_count() == 1))
            if pending is not None:  # read one step late, so that the device is never kept waiting
                self._check(*pending)
            pending = step, metrics
            profiler.after(step, metrics)
            bar.update(count)
            figures: dict[str, float] = {}
            evaluated = step % train.eval_every == 0 or step == train.steps
            logged = evaluated or step % train.log_every == 0
            if logged:
                self._check(step, metrics)
                figures = self._row(state, metrics) | pace.measure(step) | goodput.figures()
                if evaluated:
                    with goodput.spent():
                        figures |= self.evaluate(state.params)
                writer.write(step, figures)
                pace.show(bar, figures)
                pace.start(step)  # evaluation is no training time
            if self.program.snapshot is not None and step in self._kept:
                self._check(step, metrics)
                with goodput.spent():
                    self.program.snapshot(step, as_saved(state, self.layout).params)
            asked = stop.agreed(step, lambda step=step, metrics=metrics: self._check(step, metrics))
            if step % train.checkpoint_every == 0 or step == train.steps or asked:
                self._check(step, metrics)
                with goodput.spent():
                    writer.flush()
                    saved = as_saved(state, self.layout)
                    self._checkpoints.save(step, saved, figures.get("validation_loss"))
            if asked and step < train.steps:
                self._checkpoints.wait()
                stop.leave(step, asked)
        return state

    def _steps_ahead(self, step: int) -> int:
        """How many steps the next call takes: all that may be taken at once, if nobody looks in between."""
        together = self.config.mesh.steps_at_once
        if together == 1:
            return 1
        train, traced = self.config.train, self.config.profile.steps
        looked = {train.steps, *self._kept, *([traced[0] - 1, traced[1]] if traced else [])}

        def looks(step: int) -> bool:
            rhythms = train.log_every, train.eval_every, train.checkpoint_every
            return step in looked or any(step % rhythm == 0 for rhythm in rhythms)

        return 1 if any(map(looks, range(step + 1, step + together))) else together

    def _take(self, state: TrainState, batches: Sequence[jax.Array]) -> tuple[TrainState, Metrics]:
        """A step with each batch."""
        if len(batches) == 1:
            return self.step(state, batches[0], self._frozen)
        return self.steps(state, tuple(batches), self._frozen)

    def evaluate(self, params: Params) -> dict[str, float]:
        """The program's figures on the fixed validation batches, the loss in bits a byte of text, too.

        Those compare over tokenizers: a loss a token is smaller the shorter the tokens are.
        """
        # All are on their way before the first is waited for.
        under_way = [self._evaluate(params, self._put(rows), self._frozen) for rows in self._validation]
        figures = self.program.summarize([fetch(each) for each in under_way])
        if self._bits_per_byte is None:
            return figures
        return figures | {"validation_bits_per_byte": figures["validation_loss"] * self._bits_per_byte}

    def _put(self, rows: np.ndarray) -> jax.Array:
        """This process' rows of a batch as the global batch."""
        return meshes.put_rows(rows, self._mine, self.config.train.batch_size, self.layout.rows)

    def _fixed_batches(self, windows: Windows) -> list[np.ndarray]:
        """This process' rows of the validation batches: the same each time, spread over the whole split.

        The first windows alone would be the first few files, which may be tables of data.
        """
        size = self.config.train.batch_size
        count = max(1, min(self.config.train.eval_batches, len(windows) // size))
        wanted = np.linspace(0, len(windows) - 1, count * size).astype(int)  # a tiny split repeats itself
        return list(windows.rows(wanted).reshape(count, size, -1)[:, self._mine])

    def _check(self, step: int, metrics: Metrics) -> None:
        loss = float(metrics["loss"])
        if not (math.isfinite(loss) and metrics["finite"]):
            what = f"the loss is {loss}" if not math.isfinite(loss) else "a parameter is no longer finite"
            self._checkpoints.wait()
            last = self._checkpoints.latest
            kept = "there is no checkpoint yet" if last is None else f"checkpoint {last} is intact"
            when = "at" if self.config.mesh.steps_at_once == 1 else "by"  # of several, the last is known
            raise DivergenceError(
                f"{what} {when} step {step}; {kept}; try a lower optimizer.learning_rate in a new workdir"
            )

    def _row(self, state: TrainState, metrics: Metrics) -> dict[str, Any]:
        values = {**jax.device_get(metrics), **jax.device_get(self._measure(state.params))}
        return {key: float(value) for key, value in values.items() if key != "finite"}


def bits_per_byte(counts: Mapping[str, int]) -> float | None:
    """Bits a byte of text that are one nat a token; None where `counts` (of `Windows`) do not say."""
    if not counts.get("bytes"):
        return None
    return counts["tokens"] / counts["bytes"] / math.log(2)
