"""What a compiled program takes of a chip, and for how long: figures, a sentence, and JSON."""

import dataclasses
from collections.abc import Collection
from typing import Any

import jax

from circuits_jax.training.compiling.collectives import Collective, collectives
from circuits_jax.training.compiling.costs import count_costs
from circuits_jax.training.compiling.hlo import parse
from circuits_jax.training.compiling.refusals import Refusal
from circuits_jax.training.compiling.shares import byte_shares
from circuits_jax.training.compiling.topologies import Slice

BOUNDS = ("memory", "compute", "network")


@dataclasses.dataclass(frozen=True)
class MemoryUse:
    """Bytes of one chip while the program runs.

    Attributes:
      arguments: What it is given.
      outputs: What it gives.
      aliased: Of the outputs, what takes the place of arguments.
      temporaries: What it needs in between.
      code: The program itself.
    """

    arguments: int
    outputs: int
    aliased: int
    temporaries: int
    code: int

    @property
    def total(self) -> int:
        """All at once."""
        return self.arguments + self.outputs - self.aliased + self.temporaries + self.code


@dataclasses.dataclass(frozen=True)
class Traffic:
    """What one chip does in one run of the program.

    Attributes:
      flops: Operations of matrix products.
      bytes: That instructions read and write.
      main_bytes: Of these, those of main memory; the rest stays on the chip.
      network_bytes: To other chips.
      shares: Fractions of `bytes`, by SHARES.
      collectives: What is sent, the largest first.
      uncounted: Loops that were counted once since nobody tells their turns.
    """

    flops: float
    bytes: float
    main_bytes: float
    network_bytes: float
    shares: dict[str, float]
    collectives: tuple[Collective, ...]
    uncounted: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class CompileReport:
    """A program as the compiler made it for a slice, or why it did not.

    Attributes:
      what: The program.
      slices: The chips.
      mesh: {axis: size}.
      memory: Of one chip; None where the compiler refused.
      traffic: Of one chip; None where the compiler refused.
      refusal: What the compiler said of memory it lacked; None where it compiled.
      steps: Of training that one call takes.
      lower_seconds, compile_seconds: How long tracing and compiling took.
    """

    what: str
    slices: Slice
    mesh: dict[str, int]
    memory: MemoryUse | None
    traffic: Traffic | None
    refusal: Refusal | None
    steps: int
    lower_seconds: float
    compile_seconds: float

    @property
    def memory_bytes(self) -> int | None:
        """Of one chip; None where not even the refusal says."""
        if self.memory is not None:
            return self.memory.total
        return None if self.refusal is None else self.refusal.needed

    @property
    def memory_limit(self) -> int | None:
        """Bytes that a program may have."""
        said = None if self.refusal is None else self.refusal.available
        return said or self.slices.chip.memory

    @property
    def fits(self) -> bool:
        """Whether a chip has the memory."""
        limit = self.memory_limit
        return self.memory is not None and (limit is None or self.memory.total <= limit)

    @property
    def seconds(self) -> dict[str, float]:
        """What each of BOUNDS would take by itself at the chip's peak; {} where the compiler refused."""
        chip, traffic = self.slices.chip, self.traffic
        if traffic is None:
            return {}
        return {
            "memory": traffic.main_bytes / chip.memory_speed,
            "compute": traffic.flops / chip.flops,
            "network": traffic.network_bytes / chip.network_speed,
        }

    @property
    def bound(self) -> str | None:
        """Which of BOUNDS takes longest; None where the compiler refused."""
        seconds = self.seconds
        return max(seconds, key=lambda name: seconds[name]) if seconds else None

    def sentence(self) -> str:
        """Whether it fits and what bounds it, for people."""
        needed, limit = self.memory_bytes, self.memory_limit
        of = (
            f"{gib(needed)} of the {gib(limit)} GiB that a program may have on a {self.slices.chip.name} chip"
        )
        if not self.fits and needed is None:
            return "It does not fit: the compiler finds no room for it on the chip."
        if not self.fits:
            return f"It does not fit: it needs {of}."
        bound, milliseconds = self.bound, 1e3 * max(self.seconds.values())
        words = {"memory": "memory traffic", "compute": "arithmetic", "network": "the network between chips"}
        call = "step" if self.what in ("train", "bridges") else "call"
        if self.steps > 1:
            call = f"call of {self.steps} steps"
        at_least = f"at least {milliseconds:.3g} ms a {call}"
        return f"It fits, with {of}, and is bound by {words[str(bound)]}: {at_least}."

    def to_json(self) -> dict[str, Any]:
        """All figures, by the names that scripts read; null where they are not known."""
        traffic, memory = self.traffic, self.memory
        return {
            "fits": self.fits,
            "memory_bytes": self.memory_bytes,
            "memory_limit_bytes": self.memory_limit,
            "flops": None if traffic is None else traffic.flops,
            "bytes": None if traffic is None else traffic.bytes,
            "bound": self.bound,
            "shares": None if traffic is None else traffic.shares,
            "collectives": None if traffic is None else [_row(each) for each in traffic.collectives],
            "what": self.what,
            "topology": self.slices.name,
            "num_slices": self.slices.count,
            "mesh": self.mesh,
            "steps": self.steps,
            "memory": None if memory is None else dataclasses.asdict(memory),
            "main_memory_bytes": None if traffic is None else traffic.main_bytes,
            "network_bytes": None if traffic is None else traffic.network_bytes,
            "seconds_at_peak": self.seconds or None,
            "lower_seconds": round(self.lower_seconds, 2),
            "compile_seconds": round(self.compile_seconds, 2),
            "loops_counted_once": [] if traffic is None else list(traffic.uncounted),
            "refusal": None if self.refusal is None else dataclasses.asdict(self.refusal),
        }


def read_compiled(
    compiled: jax.stages.Compiled, weights: Collection[tuple[int, ...]], devices: int
) -> tuple[MemoryUse, Traffic]:
    """What a compiled program takes and does, read off its text.

    Args:
      compiled: For any backend.
      weights: Shapes of its parameters, whole and in parts (`collectives.collectives`).
      devices: That it runs on.
    """
    figures: Any = compiled.memory_analysis()
    memory = MemoryUse(
        arguments=figures.argument_size_in_bytes,
        outputs=figures.output_size_in_bytes,
        aliased=figures.alias_size_in_bytes,
        temporaries=figures.temp_size_in_bytes,
        code=figures.generated_code_size_in_bytes,
    )
    module = parse(compiled.as_text() or "")
    costs = count_costs(module)
    sent = collectives(module, costs, weights, devices)
    return memory, Traffic(
        flops=costs.flops,
        bytes=costs.bytes,
        main_bytes=costs.main_bytes,
        network_bytes=sum(each.wire_bytes for each in sent),
        shares=byte_shares(module, costs),
        collectives=tuple(sent),
        uncounted=costs.uncounted,
    )


def gib(count: float | None) -> str:
    """A number of bytes in GiB, without the unit; "an unknown part" for None."""
    return "an unknown part" if count is None else f"{count / 2**30:.3g}"


def _row(each: Collective) -> dict[str, Any]:
    return {
        "op": each.op,
        "bytes": each.bytes,
        "shape": list(each.shape),
        "source": each.source,
        "of": each.of,
    }
