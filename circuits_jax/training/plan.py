"""What a run will take, told before it starts, and its pace, told while it runs."""

import math
import time
from typing import Any

import jax

from circuits_jax.config import Config
from circuits_jax.model.attention import LONG
from circuits_jax.model.parameters import frozen_shapes
from circuits_jax.storage.progress import ProgressBar
from circuits_jax.training.compiling.chips import chip_of
from circuits_jax.training.layout import Layout


def plan(layout: Layout, config: Config) -> dict[str, Any]:
    """The figures of a run, before it starts; bytes are of one device unless they say otherwise."""
    mesh, train = layout.mesh, config.train
    ways = layout.rows.num_devices // mesh.shape["model"]
    parameters = jax.tree.leaves(layout.shapes.params)
    return {
        "devices": mesh.size,
        "devices_left_out": jax.device_count() - mesh.size,
        "device_kind": mesh.devices.flat[0].device_kind,
        "processes": jax.process_count(),
        "mesh": dict(mesh.shape),
        "parameters": sum(leaf.size for leaf in parameters),
        "parameter_bytes_in_all": sum(leaf.size * leaf.dtype.itemsize for leaf in parameters),
        "parameter_bytes": bytes_per_device(layout.shapes.params),
        "not_trained": sum(leaf.size for leaf in jax.tree.leaves(frozen_shapes(config.model))),
        "optimizer_bytes": bytes_per_device(layout.shapes.opt_state),
        "activation_bytes": activation_bytes(config, train.batch_size // ways // config.mesh.accumulate),
        "batch": train.batch_size,
        "batch_per_device": train.batch_size // ways,
        "accumulate": config.mesh.accumulate,
        "tokens_per_step": train.batch_size * config.model.n_ctx,
        "steps": train.steps,
        "corpus": config.data.hash,
        "generated_share": config.data.generated_share or 0.0,
        "grammar": config.data.grammar,
    }


def describe(figures: dict[str, Any]) -> str:
    """`plan`'s figures, for people."""
    f = figures
    mesh = " x ".join(f"{axis} {size}" for axis, size in f["mesh"].items())
    left = f["devices_left_out"]
    parts = f" in {f['accumulate']} parts" if f["accumulate"] > 1 else ""
    return "\n".join(
        [
            f"mesh         {mesh}: {f['devices']} x {f['device_kind']}, {f['processes']} process"
            + ("es" if f["processes"] > 1 else "")
            + (f"; {left} more do not divide the batch and are left out" if left else ""),
            f"parameters   {f['parameters']:,}, {_bytes(f['parameter_bytes_in_all'])}; "
            f"{_bytes(f['parameter_bytes'])} a device"
            + (f"; {f['not_trained']:,} more are not trained" if f["not_trained"] else ""),
            f"optimizer    {_bytes(f['optimizer_bytes'])} a device",
            f"activations  about {_bytes(f['activation_bytes'])} a device (estimate)",
            f"batch        {f['batch']} windows, {f['batch_per_device']} a device{parts}; "
            f"{f['tokens_per_step']:,} tokens a step, "
            f"{f['steps'] * f['tokens_per_step']:,} in {f['steps']:,} steps",
            f"corpus       {f['corpus'] or 'no hash'}: "
            + (
                f"{f['generated_share']:.0%} of its training windows are generated programs "
                f"(grammar {f['grammar']})"
                if f["generated_share"]
                else "as it is, no generated programs"
            ),
        ]
    )


def bytes_per_device(shapes: Any) -> int:
    """Bytes that one device holds of a tree of ShapeDtypeStructs with shardings."""
    return sum(
        math.prod(leaf.sharding.shard_shape(leaf.shape)) * leaf.dtype.itemsize
        for leaf in jax.tree.leaves(shapes)
    )


def activation_bytes(config: Config, rows: int) -> int:
    """Bytes that the backward pass of `rows` windows keeps, by a rough count of what it reads.

    For each token and layer: each half's input, its norm and what AbsTopK leaves of it; q, k and v before and
    after AbsTopK, and what attention gives; attention's weights, twice, in float32, where they are kept: in
    windows of LONG tokens and more they are computed anew; neurons before and after the nonlinearity and
    after AbsTopK; each half's output before and after AbsTopK.  Then the logits, twice, in float32.  Splits
    over `model` are not counted in: XLA chooses which activations to split.
    """
    m = config.model
    width = 2 if m.dtype == "bfloat16" else 4
    streams = 2 * (3 * m.d_read + 2 * m.d_model)
    products = 3 * m.d_attn + m.d_model + m.neurons + m.d_model
    weights = 8 * m.heads * m.n_ctx if m.n_ctx < LONG else 0
    inside = (streams + 7 * m.d_attn + 3 * m.neurons) * width + weights
    if config.mesh.remat == "none":
        layers = m.n_layer * inside
    elif config.mesh.remat == "dots":
        layers = m.n_layer * (m.d_model + products) * width + inside
    else:
        layers = m.n_layer * m.d_model * width + inside
    return rows * m.n_ctx * (layers + 8 * m.vocab_size)


def peak_flops(device: jax.Device) -> float | None:
    """The device's peak in bfloat16, operations a second; None if it is not known."""
    chip = chip_of(device.device_kind)
    return None if chip is None else chip.flops


class Pace:
    """Tokens a second between rows of the log, share of the devices' peak, time to go."""

    def __init__(self, config: Config, flops_per_token: float | None, first: int, devices: int):
        self._steps = config.train.steps
        self._tokens = config.train.batch_size * config.model.n_ctx
        peak = peak_flops(jax.devices()[0])
        self._peak = peak * devices / flops_per_token if peak and flops_per_token else None
        self._measured = 0
        self.start(first)

    def start(self, step: int) -> None:
        """The clock runs from now, after `step`."""
        self._since, self._clock = step, time.perf_counter()

    def measure(self, step: int) -> dict[str, float]:
        """Since `start`: "tokens_per_second"; where the peak is known, "mfu", the share of it."""
        speed = (step - self._since) * self._tokens / (time.perf_counter() - self._clock)
        self._step, self._measured = step, self._measured + 1
        return {"tokens_per_second": speed} | ({"mfu": speed / self._peak} if self._peak else {})

    def show(self, bar: ProgressBar, figures: dict[str, float]) -> None:
        """Puts a row's figures behind the bar; once, after the warm-up, says how long the run will take."""
        speed = figures["tokens_per_second"]
        shown = {"loss": f"{figures['loss']:.3f}"}
        shown |= {"l0": f"{figures['l0']:.4f}"} if "l0" in figures else {}
        shown |= {"mfu": f"{figures['mfu']:.1%}"} if "mfu" in figures else {}
        bar.set_postfix(shown | {"tokens/s": f"{speed:,.0f}"})
        if self._measured == 2 and not bar.disable:  # the first span holds the compilation
            seconds = (self._steps - self._step) * self._tokens / speed
            mfu = f"{figures['mfu']:.1%} of the peak, " if "mfu" in figures else ""
            bar.write(
                f"pace         {speed / self._tokens:.3g} steps a second, {speed:,.0f} tokens a second, {mfu}"
                f"{_duration(seconds)} to go"
            )


def _bytes(count: float) -> str:
    for unit in ("B", "kB", "MB"):
        if count < 1000:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:,.1f} GB"


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    minutes = seconds / 60
    return f"{minutes:.0f} min" if minutes < 120 else f"{minutes / 60:.1f} h"
