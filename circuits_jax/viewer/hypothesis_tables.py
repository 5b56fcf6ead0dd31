"""An audit's tests with a p-value, as tables (docs/statistics.md, "Tests")."""

from circuits_jax.storage.tables import Report


def circuit_table(tests: Report) -> list[Report]:
    """One row a test whose null says that there is nothing to the circuit."""
    level = tests["level"]
    rows = [
        {
            "test": row["test"],
            "measured": f"loss {row['loss']:.3f}; random circuits {row['random']:.3f} ({row['draws']})",
            "p": p_value(row["p"]),
            "corrected": p_value(row["corrected"]),
            "outcome": "told from random" if row["corrected"] < level else "not told from random",
        }
        for row in tests["circuit"]
    ]
    edges = tests["edges"]
    if edges.get("why_not") is None:
        rows.append(
            {
                "test": "edges",
                "measured": f"{edges['draws']} random edges, of which the largest effect is "
                f"{edges['random'][-1]:.3f}",
                "outcome": f"{edges['significant']} of {len(edges['rows'])} edges told from random",
            }
        )
    return rows


def contrary_table(tests: Report) -> list[Report]:
    """One row a test whose null says that the circuit is right, with its power if that was measured."""
    rows = []
    for name, measured in (
        ("equivalence", lambda of: f"better on {of['better']:.1%} of pairs, worse on {of['worse']:.1%}"),
        ("independence", lambda of: f"HSIC {of['hsic']:.4f}"),
    ):
        of = tests[name]
        row = {
            "test": name,
            "measured": measured(of),
            "p": p_value(of["p"]),
            "outcome": "not so" if of["p"] < tests["level"] else "nothing against it",
        }
        if of["power"] is None:
            row["power"] = "left to full controls"
        for kind, found in (of["power"] or {}).items():
            share = "no such circuit" if found["rejected"] is None else f"{found['rejected']:.0%}"
            row[f"rejects, {kind}"] = f"{share} of {found['circuits']}" if found["circuits"] else share
        rows.append(row)
    return rows


def nulls(tests: Report) -> list[tuple[str, str]]:
    """(test, its null) of each."""
    rows = [(row["test"], row["null"]) for row in tests["circuit"]]
    return rows + [(name, tests[name]["null"]) for name in ("edges", "equivalence", "independence")]


def edge_table(tests: Report) -> list[Report]:
    """One row an edge, the largest effect first; none if they were not tested."""
    return [
        {
            "edge": f"{row['source']} to {row['target']}",
            "effect": row["effect"],
            "p": p_value(row["p"]),
            "corrected": p_value(row["corrected"]),
        }
        for row in tests["edges"].get("rows", ())
    ]


def remarks(tests: Report) -> list[str]:
    """What there is to say of the tests, a sentence each."""
    said = [
        f"A corrected p below {tests['level']:g} rejects the null. The circuit's two tests are corrected "
        "together, and so are its edges' (Holm); tests whose null says that the circuit is right are not, "
        "and speak against it only."
    ]
    if tests["edges"].get("why_not") is not None:
        said.append(f"Its edges were not tested one by one: {tests['edges']['why_not']}.")
    unmeasured = [name for name in ("equivalence", "independence") if tests[name]["power"] is None]
    if unmeasured:
        said.append(
            f"Full controls add the power of {' and '.join(unmeasured)}, the share of wrong circuits that is "
            "rejected. Until it is known, nothing against the circuit says little for it."
        )
    for name in ("equivalence", "independence"):
        if tests[name]["power"] and tests[name]["p"] < tests["level"]:
            said.append(
                f"The test of {name} rejects the circuit itself: that it rejects wrong ones too says "
                "little of its power."
            )
    return said


def p_value(p: float) -> str:
    """Three digits, or that it is below what they show."""
    return "below 0.001" if p < 0.0005 else f"{p:.3f}"
