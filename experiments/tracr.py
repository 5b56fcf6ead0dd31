"""Does pruning find circuits that no one here wrote?  Precision and recall on programs that tracr compiled.

    python -m experiments.tracr --workdir=runs/tracr

Killed, it goes on with the first program that is not done.  The workdir gets `tracr.json`.  The compiled
programs come with the library; --compile makes them anew, with the extra `tracr`.
"""

import sys

from circuits_jax.__main__ import run

if __name__ == "__main__":
    run("tracr", sys.argv[1:])
