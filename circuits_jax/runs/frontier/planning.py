"""What a frontier will take, before anything is trained: points, hours, memory (docs/frontier.md, "Cost").

Nothing is compiled or timed.  A step is taken to last as long as its floating-point operations and the bytes
of its parameters and their optimizer state take, at the rates in the configuration.  What is measured already
corrects that.
"""

import dataclasses
from collections.abc import Sequence

from circuits_jax.circuits.pruning.sweep import total_steps
from circuits_jax.config import Config, FrontierConfig, ModelConfig
from circuits_jax.configs.figures import GB, activation_gb, figures, state_gb
from circuits_jax.model import sites
from circuits_jax.runs.frontier.measure import measured, trials
from circuits_jax.runs.frontier.points import FrontierPoint, middle
from circuits_jax.storage.tables import Report
from circuits_jax.training.pretraining import flops_per_token

PROMPT_TOKENS = 40  # of a task's prompt, about
PROCESS_GB = 1.2  # of a process with its libraries and compiled programs, on a CPU
LEAST_STEP = 0.004  # seconds of any step, whatever it computes
TOPK_OPERATIONS = 600  # that choosing among activations takes as long as, for each, forward and backward


@dataclasses.dataclass(frozen=True)
class PlannedPoint:
    """One model of the plan.

    Attributes:
      point: It.
      training, pruning: Hours, which it took if it is done.
      memory: GB of a device that trains it.
      done: Whether it is measured.
    """

    point: FrontierPoint
    training: float
    pruning: float
    memory: float
    done: bool


@dataclasses.dataclass(frozen=True)
class FrontierPlan:
    """The whole list.

    Attributes:
      points: In the list's order.
      tuning: {series: (trials that are left beside what its points train anyway, their hours)}.
      slots: Models that are trained at a time.
    """

    points: tuple[PlannedPoint, ...]
    tuning: dict[str, tuple[int, float]]
    slots: int

    @property
    def hours_to_go(self) -> float:
        """Of all that is left, one model after another."""
        left = sum(each.training + each.pruning for each in self.points if not each.done)
        return left + sum(hours for _, hours in self.tuning.values())

    def report(self) -> Report:
        """As `plan.json` has it."""
        rows = []
        for index, each in enumerate(self.points):
            config, counts = each.point.config, figures(each.point.config)
            rows.append(
                {
                    "index": index,
                    "series": each.point.series,
                    "size": each.point.size,
                    "seed": each.point.seed,
                    "kind": each.point.kind,
                    "parameters": counts.parameters,
                    "nonzeros": counts.nonzeros,
                    "steps": config.train.steps,
                    "training hours": round(each.training, 3),
                    "pruning hours": round(each.pruning, 3),
                    "memory GB": round(each.memory, 1),
                    "done": "yes" if each.done else "",
                }
            )
        summary = {
            "points": f"{len(self.points)}, --points={{}} of an array 0-{len(self.points) - 1}",
            "done": sum(each.done for each in self.points),
            "tokens each": max(figures(each.point.config).tokens for each in self.points),
            **{
                f"trials of learning rates, {series}": f"{count}, {hours:.2f} hours"
                for series, (count, hours) in self.tuning.items()
            },
            "hours to go, one after another": round(self.hours_to_go, 2),
            f"hours to go, {self.slots} at a time": round(self.hours_to_go / self.slots, 2),
            "memory of the largest, GB": round(max(each.memory for each in self.points), 1),
        }
        return {"summary": summary, "rows": rows}


def plan_points(config: Config, points: Sequence[FrontierPoint]) -> FrontierPlan:
    """What a list takes; hours to come are corrected by those that finished points took."""
    asked = config.frontier
    estimates = {
        point: (
            point.config.train.steps * step_seconds(point.config, asked) / 3600,
            pruning_seconds(point.config, asked) / 3600,
        )
        for point in points
    }
    took = {}
    for point in points:
        result = measured(point)
        if result is not None:
            took[point] = (result.get("training_hours", 0.0), result.get("pruning_hours", 0.0))
    slower = [_slower([(took[p][i], estimates[p][i]) for p in took if took[p][i]]) for i in (0, 1)]
    planned = tuple(
        PlannedPoint(
            point,
            *took.get(point, (estimates[point][0] * slower[0], estimates[point][1] * slower[1])),
            memory_gb(point.config, asked.chips),
            point in took,
        )
        for point in points
    )
    return FrontierPlan(planned, _tuning(planned), asked.slots)


def step_seconds(config: Config, asked: FrontierConfig) -> float:
    """Seconds of a training step at the configured rates."""
    tokens = config.train.batch_size * config.model.n_ctx
    operations = tokens * (flops_per_token(config.model) + _topk_operations(config.model))
    return LEAST_STEP + operations / asked.flops_per_second + GB * state_gb(config) / asked.bytes_per_second


def pruning_seconds(config: Config, asked: FrontierConfig) -> float:
    """Seconds of pruning at the configured rates: mask steps of all tasks, and what comes after them."""
    model, prune = config.model, config.prune
    # Masks need no gradients of weights, two thirds of the operations; of the logits two are asked for.
    layers = 2 / 3 * (flops_per_token(model) - 6 * model.d_model * model.vocab_size)
    operations = 2 * prune.batch_pairs * PROMPT_TOKENS * (layers + _topk_operations(model))
    step = LEAST_STEP + operations / asked.flops_per_second
    return total_steps(prune) * asked.tasks_planned * step * asked.prune_factor + asked.compile_seconds


def _topk_operations(model: ModelConfig) -> float:
    """Of AbsTopK, for each token."""
    if model.activation_fraction is None:
        return 0.0
    chosen = sum(sites.topk_width(model, location) for location in model.activation_locations)
    return float(TOPK_OPERATIONS * model.n_layer * chosen)


def memory_gb(config: Config, chips: int) -> float:
    """GB of a device among so many that train a model, the process counted in."""
    return PROCESS_GB + state_gb(config) + activation_gb(config, chips, config.mesh.accumulate)


def _tuning(planned: Sequence[PlannedPoint]) -> dict[str, tuple[int, float]]:
    """See FrontierPlan: one of a series' trials is the training of its middle point."""
    found = {}
    for series in dict.fromkeys(each.point.series for each in planned):
        alike = {each.point: each for each in planned if each.point.series == series}
        tried = middle(list(alike))
        untried = [rate for rate, trial in trials(list(alike)).items() if trial is None]
        if untried and tried.chooses:
            count = len(untried) - (0 if alike[tried].done else 1)
            found[series] = (count, count * alike[tried].training)
    return found


def _slower(pairs: Sequence[tuple[float, float]]) -> float:
    """By which factor what was measured is slower than its estimates, (measured, estimated) hours each."""
    return sum(hours for hours, _ in pairs) / sum(hours for _, hours in pairs) if pairs else 1.0
