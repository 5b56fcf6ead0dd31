"""Changes nodes of a model by hand and compares the next tokens before and after.

    python -m circuits_jax intervene --model=runs/quickstart --prompt='print("hi' --ablate=1.attn.v.12:mean
    python -m circuits_jax intervene --model=runs/quickstart --prompt='print("hi' \\
        --circuit=runs/quickstart/circuits/single_double_quote --circuit_role=ablate

--set and --ablate may be given several times, or with commas.  They act at the positions --at.  A circuit
acts at every position: its nodes are kept and all others ablated, or its own are, or it only gives the means.
"""

import numpy as np
from absl import flags

from circuits_jax.commands import launching, reading
from circuits_jax.runs import by_hand
from circuits_jax.storage.errors import ConfigError
from circuits_jax.storage.filenames import INTERVENE
from circuits_jax.storage.paths import as_path


def define_flags() -> None:
    """The flags of this command."""
    launching.define_model()
    launching.define_store()
    reading.define_prompt()
    flags.DEFINE_multi_string("set", [], "SITE.INDEX=NUMBER: a node's value.")
    flags.DEFINE_multi_string("ablate", [], "SITE.INDEX:mean or SITE.INDEX:zero.")
    flags.DEFINE_string("circuit", None, "A circuit's folder.")
    flags.DEFINE_enum("circuit_role", "keep", list(by_hand.ROLES), "Keep, ablate, or only use its means.")
    flags.DEFINE_string("positions", "last", "Where to show logits: all, last, or a list: 0,3,-1.")
    flags.DEFINE_string("at", "all", "Where --set and --ablate act: all, last, or a list.")
    flags.DEFINE_integer("top", 5, "Most probable tokens to show, before and after.", lower_bound=1)
    launching.define_out()


def main() -> None:
    """The command."""
    given = flags.FLAGS
    launching.refuse_without("circuit", "circuit_role")
    run = launching.open_model()
    edits = reading.read_edits({"set": given.set, "ablate": given.ablate}, run.model.config)
    circuit = None if given.circuit is None else by_hand.read_circuit_of(run.model, as_path(given.circuit))
    if not edits and circuit is None:
        raise ConfigError(
            f"nothing to change; give {', '.join(reading.EXAMPLES.values())} or --circuit=FOLDER"
        )
    prompt = reading.read_prompt(run.model)
    shown = reading.read_positions("positions", len(prompt))
    where = np.zeros(len(prompt), bool)
    where[reading.read_positions("at", len(prompt))] = True
    before, after = by_hand.intervened_logits(
        run, prompt, by_hand.Intervention(edits, where, circuit, given.circuit_role)
    )
    rows = by_hand.compare(before, after, shown, given.top, run.model, prompt)
    summary = {
        "model": run.model.name,
        "prompt": " ".join(run.model.pieces(prompt)),
        "changes": ", ".join(f"{edit.node} -> {edit.value}" for edit in edits) or "none",
        "circuit": f"{given.circuit} ({given.circuit_role})" if given.circuit else "none",
    }
    launching.report(rows, (run.workdir or launching.workdir()) / INTERVENE, summary)
