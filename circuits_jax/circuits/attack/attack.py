"""Lists that fool a bracket circuit, derived from the circuit, with matched controls.

See docs/method.md, "Dilution attack".

The circuit averages brackets over the context and thresholds the average, so elements added to the list
dilute it: `attack.dilution` predicts by how much.  The controls: other fillers and other places, each with
a prediction of its own; the same long lists with the circuit's averages put back to what they were on the
short list ("undone": where dilution is the cause, this cures it), or as many other channels ("placebo"); the
same with all of its first head, or of the best other head; and the prompts B, whose right answer is the
shallow one.  What follows if every head is diluted is predicted too: where only this agrees with the model,
more than the circuit seems to be diluted.
"""

import dataclasses
import functools
from collections.abc import Callable, Sequence

import numpy as np

from circuits_jax.circuits import planted
from circuits_jax.circuits.ablation.means import mean_activations
from circuits_jax.circuits.attack.dilution import (
    Channels,
    Dilution,
    Head,
    ModelRun,
    Reading,
    inserted,
    predict,
    rank_heads,
    score,
)
from circuits_jax.circuits.audit.intervals import ClusteredIntervals
from circuits_jax.circuits.masks import full_masks
from circuits_jax.model.model import Model
from circuits_jax.model.sites import parse
from circuits_jax.storage.errors import CircuitError
from circuits_jax.storage.tables import Row
from circuits_jax.tasks.calibration import calibrate
from circuits_jax.tasks.longer import insert_tokens
from circuits_jax.tasks.metrics import right_margin
from circuits_jax.tasks.task import Pairs

SEED, CONFIDENCE = 0, 0.95
PLANTED_ROOM = 64
SCORE_ERROR = 0.1  # how far the averages may be off at the greatest length, as a share of the short lists'
UNDONE, PLACEBO, ELSEWHERE = "dilution undone", "placebo: other channels", "as many tokens before the list"
EVERY_HEAD = "accuracy predicted, every head diluted"
DEEP = 0  # prompts A need a large average, prompts B a small one


@dataclasses.dataclass(frozen=True)
class DilutionCase:
    """A model and its bracket circuit, and how to make its lists longer.

    Attributes:
      name: To show.
      model: The full model.
      masks, means: The circuit: {node site: [width]}, 1 on its nodes, and what the others are held at.
      short: Pairs of lists of ordinary length.
      fillers: Name -> (pairs with so many more elements in the list).
      elsewhere: Pairs with so many tokens more, of each pair, before the list.
    """

    name: str
    model: Model
    masks: Channels
    means: Channels
    short: Pairs
    fillers: dict[str, Callable[[int], Pairs]]
    elsewhere: Callable[[np.ndarray], Pairs]


def plant_case(lists: int, room: int = PLANTED_ROOM) -> DilutionCase:
    """A planted bracket network, without positions and so of any context: `room` tokens."""
    found = planted.plant("brackets", SEED, lists, lists, lists)
    model = dataclasses.replace(found.model, config=dataclasses.replace(found.config, n_ctx=room))
    masks = full_masks(model.config, 0.0)
    for node in found.nodes:
        masks[node.site][node.index] = 1
    short = found.test
    known = {
        int(token): name
        for (text, _), row in zip(short.texts, short.tokens, strict=True)
        for name, token in zip(text.split(), row[0], strict=False)
    }
    words = sorted(token for token, name in known.items() if name.startswith("word"))
    drawn = np.random.RandomState(SEED).choice(words, (lists, room))
    return DilutionCase(
        name="planted brackets",
        model=model,
        masks=masks,
        means=mean_activations(model, found.corpus),
        short=short,
        fillers={"words in the list": lambda count: insert_tokens(short, short.last, drawn[:, :count])},
        elsewhere=lambda added: insert_tokens(
            short, [0] * lists, [row[:count] for row, count in zip(drawn, added, strict=True)]
        ),
    )


class Attack:
    """Predicts and measures one case at several lengths.

    Accuracy is after the calibration (docs/method.md, "Calibration") that suits the short lists, so that a
    mere bias does not count.
    """

    def __init__(self, case: DilutionCase, elements: list[int]):
        self.case, self.elements = case, elements
        self.lists = {name: [make(count) for count in elements] for name, make in case.fillers.items()}
        prompts = [case.short, *(pairs for each in self.lists.values() for pairs in each)]
        longest = max(pairs.tokens.shape[-1] for pairs in prompts)
        self._dilution = Dilution(case.model, case.masks, case.means, longest)
        self._slopes = self._dilution.slopes(case.short)
        self.base = self._dilution.run(case.short)
        self._base_score = score(self.base.y, self._slopes)
        if not abs(self._base_score) > 0:
            raise CircuitError("nothing that the circuit's heads pass to the last token tells A from B")
        self._scale, self._shift, _ = map(float, calibrate(self.base.difference))
        self._intervals = ClusteredIntervals(case.short.template, CONFIDENCE)

    @functools.cached_property
    def _ranked(self) -> list[Head]:
        readings = self._dilution.read(self.case.short, alone=True)
        return rank_heads(readings, self.base.y, self._slopes, self.case.model.config.d_head)

    def heads(self) -> str:
        """What the circuit's heads average when it runs alone, the one that matters most first."""
        tokens = self.case.short.last.mean() + 1
        return "; ".join(
            f"{head.layer}.{head.head} averages {head.attended:.1f} of {tokens:.1f} tokens and makes "
            f"{head.share:.0%} of the score"
            for head in self._ranked[:4]
        )

    def predicted(self, longer: Pairs, everywhere: bool = False) -> ModelRun:
        """What the circuit says of `longer`: the model on the short lists, the circuit's averages diluted.

        Args:
          longer: Longer lists, of which only the tokens that were added are looked at.
          everywhere: Whether the averages of every head are diluted, the circuit's or not.
        """
        short = self.case.short
        dilution, readings, base = self._of_every_head if everywhere else self._of_circuit
        added = inserted(short, longer, self.case.model.config.vocab_size)
        diluted = predict(readings, base, added)
        return dataclasses.replace(dilution.run(short, diluted), y=diluted)

    @functools.cached_property
    def _of_circuit(self) -> tuple[Dilution, dict[str, Reading], ModelRun]:
        """What `predicted` begins with: whose channels, what they read and pass on the short lists."""
        return self._dilution, self._dilution.read(self.case.short), self.base

    @functools.cached_property
    def _of_every_head(self) -> tuple[Dilution, dict[str, Reading], ModelRun]:
        case = self.case
        every = Dilution(case.model, full_masks(case.model.config), case.means, self._dilution.length)
        return every, every.read(case.short), every.run(case.short)

    def worst(self) -> str:
        """The filler that is predicted to harm the deep lists most at the greatest length."""
        return min(
            self.lists, key=lambda name: self._right(self.predicted(self.lists[name][-1]))[:, DEEP].mean()
        )

    def rows(self) -> list[Row]:
        """Two rows, prompts A and prompts B, for each arm and length: the attack first, then its controls."""
        worst = self.worst()
        attack = self.lists[worst]
        added = [longer.last - self.case.short.last for longer in attack]
        arms = {worst: attack, **self.lists, ELSEWHERE: [self.case.elsewhere(each) for each in added]}
        rows = []
        for name, each in arms.items():
            for longer in each:
                told = [self.predicted(longer, everywhere) for everywhere in (False, True)]
                rows += self._rows(name, longer, self._dilution.run(longer), told)
        for name, channels in self._undone(attack[-1]).items():
            for longer in attack:
                rows += self._rows(name, longer, self._dilution.run(longer, self.base.y, channels))
        return rows

    def _undone(self, longest: Pairs) -> dict[str, Channels | None]:
        """The arms in which averages are put back to those of the short lists, and which they are.

        The best other head is that of the same layer which cures the longest lists most.
        """
        first, config = self._ranked[0], self.case.model.config
        others = [self._head(first.layer, head) for head in range(config.heads) if head != first.head]
        cured = [
            self._right(self._dilution.run(longest, self.base.y, each))[:, DEEP].mean() for each in others
        ]
        arms: dict[str, Channels | None] = {UNDONE: None, PLACEBO: self._others()}
        arms[f"all of head {first.layer}.{first.head} undone"] = self._head(first.layer, first.head)
        if others:
            best = int(np.argmax(cured))
            best += best >= first.head
            name = f"instead, the best other head, {first.layer}.{best}, undone"
            arms[name] = self._head(first.layer, best)
        return arms

    def _head(self, layer: int, head: int) -> Channels:
        """All channels of one head of a layer in which the circuit has some: bool [A]."""
        size = self.case.model.config.d_head
        return {
            site: (np.arange(len(mask)) // size == head) & (parse(site)[0] == layer)
            for site, mask in self._dilution.channels.items()
        }

    def _others(self) -> Channels:
        """As many channels of the same layers as the circuit has, none of them the circuit's."""
        rng, others = np.random.RandomState(SEED), {}
        for site, mask in self._dilution.channels.items():
            free = rng.permutation(np.flatnonzero(~mask))[: mask.sum()]
            others[site] = np.isin(np.arange(len(mask)), free)
        return others

    def _right(self, run: ModelRun) -> np.ndarray:
        """Which prompts are answered rightly, calibrated on the short lists: bool [P, 2]."""
        return right_margin(self._scale * run.difference + self._shift) > 0

    def _rows(self, arm: str, longer: Pairs, run: ModelRun, told: Sequence[ModelRun] = ()) -> list[Row]:
        """Rows of one arm and length; `told`: what is predicted of the circuit's heads, and of every head."""
        added = float((longer.last - self.case.short.last).mean())
        rows: list[Row] = []
        for role, name in enumerate("AB"):
            row: Row = {"arm": arm, "tokens added": added, "prompts": name}
            for what, of, interval in (
                ("accuracy", self._right, self._intervals.rate),
                ("difference", lambda each: each.difference, self._intervals.mean),
            ):
                figure = interval(of(run)[:, role])
                row |= {what: figure.value, f"{what} low": figure.low, f"{what} high": figure.high}
                if told:
                    row[f"{what} predicted"] = float(of(told[0])[:, role].mean())
            row["score"] = score(run.y, self._slopes) / self._base_score
            if told:
                row["score predicted"] = score(told[0].y, self._slopes) / self._base_score
                row[EVERY_HEAD] = float(self._right(told[1])[:, role].mean())
            rows.append(row)
        return rows


def summarize(rows: list[Row]) -> Row:
    """The attack in a few lines, and whether it is what the circuit says."""
    found = {
        arm: [row for row in rows if row["arm"] == arm and row["prompts"] == "A"]
        for arm in dict.fromkeys(row["arm"] for row in rows)
    }
    whole = found[rows[0]["arm"]]
    shallow = [row for row in rows if row["arm"] == rows[0]["arm"] and row["prompts"] == "B"]
    told = [row for row in rows if "accuracy predicted" in row]
    return {
        "attack": f"{rows[0]['arm']}, against deep lists (prompts A)",
        **{
            f"accuracy, {arm}": f"{each[0]['accuracy']:.3f} -> {_interval(each[-1])}"
            for arm, each in (found | {"shallow lists (prompts B)": shallow}).items()
        },
        "tokens that bring it below 0.5": (
            f"{_fails(whole, 'accuracy')}, predicted {_fails(whole, 'accuracy predicted')} "
            f"(every head diluted: {_fails(whole, EVERY_HEAD)})"
        ),
        "predicted against measured": ", ".join(
            f"{what} {_agreement(told, what)}" for what in ("accuracy", "difference", "score")
        ),
        "verdict": _verdict(whole, shallow, {arm: each[-1] for arm, each in found.items()}),
    }


def _verdict(deep: list[Row], shallow: list[Row], longest: dict[str, Row]) -> str:
    """Whether intervals lie apart as the circuit says they should, and its predictions hold for every filler.

    Args:
      deep, shallow: The attack on prompts A and on prompts B, by length.
      longest: Each arm at its greatest length, prompts A.
    """
    short, long, undone, placebo = deep[0], deep[-1], longest[UNDONE], longest[PLACEBO]
    if short["accuracy low"] <= 0.5:
        return "not shown: the model does not know the short lists"
    if long["accuracy high"] >= short["accuracy low"]:
        return "not shown: the longest lists are answered as well as the short ones"
    if shallow[-1]["accuracy high"] < shallow[0]["accuracy low"]:
        return "not shown: long lists fail, but so do shallow ones, which dilution cannot harm"
    if abs(long["score"] - long["score predicted"]) > SCORE_ERROR:
        return "not shown: long lists fail, but the circuit's averages do not fall as predicted"
    for arm, row in longest.items():
        predicted = row.get("accuracy predicted")
        if predicted is not None and not row["accuracy low"] <= predicted <= row["accuracy high"]:
            return (
                f"not shown: the prediction fails for {arm} (accuracy {_interval(row)}, predicted "
                f"{predicted:.3f}), so more than this dilution is at work"
            )
    if undone["accuracy low"] <= long["accuracy high"]:
        return "not shown: long lists fail, but putting the circuit's averages back does not cure it"
    if placebo["accuracy high"] >= undone["accuracy low"]:
        return "not shown: putting back other channels cures it as well"
    return "context dilution: long lists fail as the circuit's diluted averages predict"


def _interval(row: Row) -> str:
    return f"{row['accuracy']:.3f} [{row['accuracy low']:.3f}, {row['accuracy high']:.3f}]"


def _fails(rows: list[Row], what: str) -> str:
    return next((f"{row['tokens added']:.0f}" for row in rows if row[what] < 0.5), "none of these")


def _agreement(rows: list[Row], what: str) -> str:
    measured, told = (np.array([row[key] for row in rows]) for key in (what, f"{what} predicted"))
    spread = min(measured.std(), told.std())
    correlation = f"r {np.corrcoef(measured, told)[0, 1]:.3f}" if spread > 0 else "constant"
    return f"{correlation}, mean error {np.abs(measured - told).mean():.3f}"
