"""Changes nodes of a model by hand and compares the next tokens before and after.

    python -m circuits_jax intervene --model=runs/quickstart --prompt='print("hi' --ablate=1.attn.v.12:mean
    python -m circuits_jax intervene --model=runs/quickstart --prompt='print("hi' \\
        --circuit=runs/quickstart/circuits/single_double_quote --circuit_role=ablate

--set and --ablate may be given several times, or with commas.  What they do acts at the positions --at; a
circuit's ablation acts at every position.
"""

from pathlib import Path

import numpy as np
from absl import flags

from circuits_jax.circuits.ablation.edits import Edit, parse_edit
from circuits_jax.commands import launching
from circuits_jax.config import ModelConfig
from circuits_jax.runs.by_hand import (
    ROLES,
    Intervention,
    compare,
    intervened_logits,
    read_circuit_of,
    read_positions,
    read_prompt,
)
from circuits_jax.runs.opening import load
from circuits_jax.storage.errors import ConfigError

_EXAMPLES = {"set": ("=", "--set=1.mlp.post_act.40=0"), "ablate": (":", "--ablate=1.attn.v.12:mean")}


def define_flags() -> None:
    """The flags of this command."""
    launching.define_model()
    launching.define_prompt()
    flags.DEFINE_multi_string("set", [], "SITE.INDEX=NUMBER: a node's value.")
    flags.DEFINE_multi_string("ablate", [], "SITE.INDEX:mean or SITE.INDEX:zero.")
    flags.DEFINE_string("circuit", None, "A circuit's folder.")
    role = "Keep the circuit's nodes and ablate all others, ablate them alone, or take only its means."
    flags.DEFINE_enum("circuit_role", "keep", list(ROLES), role)
    flags.DEFINE_string("positions", "last", "Where to show logits: all, last, or a list: 0,3,-1.")
    flags.DEFINE_string("at", "all", "Where --set and --ablate act: all, last, or a list.")
    flags.DEFINE_integer("top", 5, "Most probable tokens to show, before and after.", lower_bound=1)


def main() -> None:
    """The command."""
    given = flags.FLAGS
    run = load(launching.model_name())
    edits = _edits(run.model.config)
    prompt = read_prompt(run.model, given.prompt, given.tokens)
    shown = read_positions(given.positions, len(prompt), "positions")
    where = np.zeros(len(prompt), bool)
    where[read_positions(given.at, len(prompt), "at")] = True
    circuit = None if given.circuit is None else read_circuit_of(run.model, Path(given.circuit))
    before, after = intervened_logits(run, prompt, Intervention(edits, where, circuit, given.circuit_role))
    rows = compare(before, after, shown, given.top, run.model, prompt)
    summary = {
        "model": run.model.name,
        "prompt": " ".join(run.model.pieces(prompt)),
        "changes": ", ".join(f"{edit.node} -> {edit.value}" for edit in edits) or "none",
        "circuit": f"{given.circuit} ({given.circuit_role})" if given.circuit else "none",
    }
    launching.report(rows, (run.workdir or launching.workdir()) / "intervene.json", summary)


def _edits(config: ModelConfig) -> list[Edit]:
    """What --set and --ablate name."""
    edits = []
    for flag, (sign, example) in _EXAMPLES.items():
        texts = flags.FLAGS[flag].value
        for text in ",".join(texts).split(",") if texts else ():
            if sign not in text:
                raise ConfigError(f"--{flag}={text} lacks a {sign!r}; write {example}")
            edits.append(parse_edit(text, config))
    if not edits and not flags.FLAGS.circuit:
        examples = ", ".join(example for _, example in _EXAMPLES.values())
        raise ConfigError(f"nothing to change; give {examples} or --circuit=FOLDER")
    return edits
