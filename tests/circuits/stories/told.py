"""Stories of planted circuits."""

from circuits_jax.circuits.stories.files import FORMAT, VERSION


def told_of(circuit, roles, **fields):
    """A story as its file holds it."""
    about = {"format": FORMAT, "version": VERSION, "circuit": circuit.digest, "title": "A title"}
    return {**about, "text": ["A sentence."], "roles": roles, **fields}


def role(name, nodes, *claims):
    """A role whose claims are {field: value}."""
    return {"name": name, "nodes": list(map(str, nodes)), "says": f"The {name}.", "claims": list(claims)}


def claim(do, **fields):
    """A claim of the role's nodes: flips of at least 0.9 unless it says something else."""
    usual = {} if "at_most" in fields else {"at_least": 0.9}
    usual |= {} if do == "compare" else {"figure": "flips"}
    return {"claim": "It does.", "do": do, **usual, **fields}
