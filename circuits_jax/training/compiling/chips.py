"""What a chip has: the one table of peaks and memory.

Sources: the pages of Google Cloud's documentation "TPU v4", "TPU v5e", "TPU v5p" and "TPU v6e" (peak compute,
HBM capacity and bandwidth, inter-chip interconnect), NVIDIA's data sheets of the A100, H100 and H200 (dense
bfloat16).  The memory that programs may use of a TPU is what its compiler says when one asks for too much
(libtpu 0.0.51): the rest is reserved.
"""

import dataclasses

GIB = 2**30


@dataclasses.dataclass(frozen=True)
class Chip:
    """One chip, as JAX counts devices.

    Attributes:
      name: Of its generation, as topologies have it; "" where there are none.
      kind: What `jax.Device.device_kind` begins with.
      flops: Peak bfloat16 operations a second.
      memory: Bytes that a program may use; None where nobody was asked.
      memory_speed: Bytes a second between memory and chip.
      network_speed: Bytes a second to other chips of its slice, all links together, one way.
    """

    name: str
    kind: str
    flops: float
    memory: int | None = None
    memory_speed: float = 0.0
    network_speed: float = 0.0


TPUS = (
    Chip("v4", "TPU v4", 275e12, int(30.75 * GIB), 1200e9, 300e9),
    Chip("v5e", "TPU v5 lite", 197e12, int(15.75 * GIB), 819e9, 200e9),
    Chip("v5p", "TPU v5", 459e12, int(95.73 * GIB), 2765e9, 600e9),
    Chip("v6e", "TPU v6", 918e12, int(31.24 * GIB), 1638e9, 400e9),
)
_OTHERS = (
    Chip("", "TPU v5e", 197e12),
    Chip("", "NVIDIA A100", 312e12),
    Chip("", "NVIDIA H100", 989e12),
    Chip("", "NVIDIA H200", 989e12),
)


def chip_of(kind: str) -> Chip | None:
    """The chip of a `device_kind`; None if it is not in the table."""
    # The longest first: a v5 lite is no v5.
    for chip in sorted((*TPUS, *_OTHERS), key=lambda chip: len(chip.kind), reverse=True):
        if kind.startswith(chip.kind):
            return chip
    return None
