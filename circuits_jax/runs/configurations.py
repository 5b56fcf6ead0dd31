"""The sizes of the paper-sized configurations: the figures that their docstrings quote."""

from circuits_jax.config import Config, from_dict
from circuits_jax.configs import (
    csp_yolo1,
    csp_yolo2,
    dense_baselines,
    expansion_sweep,
    paper_8x1024,
    paper_8x2048,
)
from circuits_jax.configs.figures import MACHINES, activation_gb, figures, state_gb

ALL: dict[str, Config] = {
    "paper_8x1024": from_dict(Config, paper_8x1024.get_config().to_dict()),
    "paper_8x2048": from_dict(Config, paper_8x2048.get_config().to_dict()),
    "csp_yolo1": csp_yolo1.CONFIG,
    "csp_yolo2": csp_yolo2.CONFIG,
    **{f"expansion_sweep:{index}": config for index, config in enumerate(expansion_sweep.CONFIGS)},
    **{f"dense_baselines:{index}": config for index, config in enumerate(dense_baselines.CONFIGS)},
}


def sizes_table() -> str:
    """One line a configuration: parameters, nonzeros, tokens, and memory on some machines."""
    columns = "  ".join(f"{machine.name:>15}" for machine in MACHINES)
    lines = [f"{'configuration':20}{'parameters':>13}{'nonzeros':>13}{'of':>13}{'tokens':>15}  {columns}"]
    for name, config in ALL.items():
        f = figures(config)
        memory = (
            f"{state_gb(config, machine.chips):.1f} + {activation_gb(config, machine.chips):.1f} GB"
            for machine in MACHINES
        )
        lines.append(
            f"{name:20}{f.parameters:13,}{f.nonzeros:13,}{f.sparse:13,}{f.tokens:15,}  "
            + "  ".join(f"{cell:>15}" for cell in memory)
        )
    return "\n".join(lines)
