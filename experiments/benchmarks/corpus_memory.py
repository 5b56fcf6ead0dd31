"""The memory and time that making a corpus takes, against the corpus' size.

    python -m experiments.benchmarks.corpus_memory --megabytes=300,600

Each corpus is the standard library again and again, one word in twenty of every copy changed.  It is made in
a process of its own, whose peak of resident memory is told, with that of the same process before it begins.
"""

import json
import random
import re
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path

from absl import app, flags

_MEGABYTES = flags.DEFINE_list("megabytes", ["300", "600"], "Sizes of the corpora.")
_SHARE = flags.DEFINE_float("generated_share", 0.0, "Share of generated programs, of windows.")
_FOLDER = flags.DEFINE_string("folder", None, "Where they are made, and removed; by default a temporary one.")

_CHILD = """
import json, resource, sys, time
from pathlib import Path
from circuits_jax.config import DataConfig
from circuits_jax.data.corpus import prepare
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
before, began = peak(), time.monotonic()
config = DataConfig(roots=(sys.argv[1],), generated_share=float(sys.argv[3]))
corpus = prepare(config, 2048, 256, Path(sys.argv[2]))
print(json.dumps({
    "text": corpus.bytes / 1e6, "tokens": corpus.tokens / 1e6, "before": before, "peak": peak(),
    "seconds": time.monotonic() - began,
}))
"""


def write_copies(folder: Path, size: int) -> None:
    """Writes changed copies of the standard library until they have `size` bytes."""
    sources = [
        path.read_text("utf-8", "ignore")
        for path in sorted(Path(sysconfig.get_path("stdlib")).rglob("*.py"))
        if not {"site-packages", "dist-packages", "test", "tests"} & set(path.parts)
    ]
    written = number = 0
    while written < size:
        chance = random.Random(number)

        def changed(word: re.Match[str], chance: random.Random = chance) -> str:
            return word[0] + chance.choice("abcdefgh") if chance.random() < 0.05 else word[0]

        text = re.sub(r"[a-z]{4,}", changed, sources[number % len(sources)])
        path = folder / f"{number // 1000}" / f"{number}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        written += path.write_bytes(text.encode())
        number += 1


def measure(megabytes: int, folder: Path) -> dict[str, float]:
    """Figures of one corpus: megabytes of text and millions of tokens; MiB of memory; seconds."""
    write_copies(folder / "text", megabytes * 10**6)
    command = [sys.executable, "-c", _CHILD, folder / "text", folder / "run", str(_SHARE.value)]
    output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    return json.loads(output.splitlines()[-1])


def main(argv: list[str]) -> None:
    """One line a size."""
    del argv
    print(f"{'MB of text':>12}{'M tokens':>12}{'MiB before':>12}{'MiB at most':>12}{'seconds':>12}")
    for megabytes in map(int, _MEGABYTES.value):
        with tempfile.TemporaryDirectory(dir=_FOLDER.value) as folder:
            found = measure(megabytes, Path(folder))
        print("".join(f"{found[key]:12.1f}" for key in ("text", "tokens", "before", "peak", "seconds")))


if __name__ == "__main__":
    app.run(main)
