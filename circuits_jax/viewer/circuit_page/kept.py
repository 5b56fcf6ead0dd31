"""Evidence kept beside a circuit, `evidence.json.gz`: its page is drawn without running the model again.

What a page needs to run the circuit by itself is not kept: it is a third of the bytes and quickly made.
"""

import gzip
import json
import zlib
from pathlib import Path

from circuits_jax.circuits.readings.records import of_circuit
from circuits_jax.storage.files import write_aside
from circuits_jax.viewer.circuit_page.evidence import NETWORK, Evidence

FORMAT, FILE = "circuits_jax.evidence", "evidence.json.gz"
VERSION = 1  # of what `gather_evidence` gives: another one is gathered anew


def keep_evidence(folder: Path, evidence: Evidence, corpus: str) -> None:
    """Writes what was gathered of the circuit in `folder` on the corpus of a hash; always the same bytes."""
    kept = {name: value for name, value in evidence.items() if name not in NETWORK}
    about = {"format": FORMAT, "version": VERSION, "circuit": of_circuit(folder), "corpus": corpus}
    text = json.dumps(about | {"evidence": kept}, separators=(",", ":"))
    with write_aside(folder / FILE) as file:
        file.write(gzip.compress(text.encode(), mtime=0))


def kept_evidence(folder: Path, corpus: str | None) -> Evidence | None:
    """What is kept of the circuit in `folder` as it is now on that corpus; None if nothing is."""
    try:
        found = json.loads(gzip.decompress((folder / FILE).read_bytes()))
        wanted = (FORMAT, VERSION, of_circuit(folder), corpus)
        same = tuple(found[name] for name in ("format", "version", "circuit", "corpus")) == wanted
        return dict(found["evidence"]) if same else None
    except (OSError, EOFError, ValueError, LookupError, TypeError, zlib.error):  # as good as missing
        return None
