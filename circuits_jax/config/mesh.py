"""Devices: section `mesh`."""

import dataclasses

from circuits_jax.config.checks import (
    check_choice,
    check_not_negative,
    check_positive,
)
from circuits_jax.storage.errors import ConfigError

DATA, FSDP, MODEL = AXES = ("data", "fsdp", "model")
REMATS = ("none", "blocks", "dots")
KERNELS = ("auto", "pallas", "none")
PRECISIONS = ("default", "bfloat16", "high", "highest")


@dataclasses.dataclass(frozen=True)
class MeshConfig:
    """How a run lies on its devices; none of it changes the batches, nor, but for rounding, the result.

    Attributes:
      data: Devices along the axis that splits the batch; -1 takes all that the other axes leave.
      fsdp: Devices along the axis that splits the batch and every large tensor.
      model: Devices along the axis that splits heads, neurons and the vocabulary.
      rules: "pattern = axis, axis": how parameters whose name matches are split, one axis (or "a+b", or
        "-" for none) for each dimension; they come before the rules of the program.
      accumulate: Parts of a batch whose gradients are taken one after another.
      remat: What the backward pass computes again instead of keeping it: "none", "blocks" (all inside a
        layer) or "dots" (all inside a layer but matrix products).
      kernels: Where AbsTopK is a kernel of our own instead of the compiler's program: "auto" (on TPUs),
        "pallas" (on GPUs too, and interpreted on CPUs, for tests) or "none".  The result is the same.
      precision: Of a training step's matrix products in float32, in JAX's words.  "default" is the device's
        fastest: TF32 on a GPU, one pass of bfloat16 on a TPU, float32 on a CPU.  "bfloat16" rounds factors
        to bfloat16 and sums in float32, on a CPU those of linear layers: faster where the CPU has
        instructions for it, slower elsewhere.  "highest" is float32, which all else (evaluation, pruning,
        audits) computes in always.
      scan_layers: Whether a pretraining step goes over its layers in a loop, of which one layer is compiled,
        instead of compiling each.  The state holds them stacked; checkpoints are the same.
      steps_at_once: Steps that one call of the compiled program takes, wherever nothing between them is
        logged, evaluated, saved or traced: where a step is shorter than what a host needs to start one.  It
        divides train.log_every.
      workers: Processes that read batches ahead; 0 reads them in a thread.
    """

    data: int = -1
    fsdp: int = 1
    model: int = 1
    rules: tuple[str, ...] = ()
    accumulate: int = 1
    remat: str = "none"
    kernels: str = "auto"
    precision: str = "default"
    scan_layers: bool = False
    steps_at_once: int = 1
    workers: int = 0

    def __post_init__(self) -> None:
        for axis in ("data", "fsdp", "model"):
            if getattr(self, axis) != -1:
                check_positive(f"mesh.{axis}", getattr(self, axis))
        if [self.data, self.fsdp, self.model].count(-1) > 1:
            raise ConfigError("of mesh.data, mesh.fsdp and mesh.model only one may be -1, for what is left")
        check_positive("mesh.accumulate", self.accumulate)
        check_positive("mesh.steps_at_once", self.steps_at_once)
        check_choice("mesh.remat", self.remat, REMATS)
        check_choice("mesh.kernels", self.kernels, KERNELS)
        check_choice("mesh.precision", self.precision, PRECISIONS)
        check_not_negative("mesh.workers", self.workers)
