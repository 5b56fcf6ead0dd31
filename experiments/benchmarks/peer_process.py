"""The PyTorch reimplementation's steps in a process of their own (`peer_steps` does them).

In one process the two sides would share a heap, its settings and the threads that wait for work, and each
would be timed with what the other needs.
"""

import contextlib
import itertools
import json
import os
import subprocess
import sys
from typing import Any

from circuits_jax.storage.errors import ConfigError
from experiments.benchmarks.our_steps import Work
from experiments.benchmarks.peer_steps import Peer


class PeerProcess:
    """Runs `Peer` elsewhere; its methods are those of `Peer`.  A context, at whose end the process ends.

    Args:
      folder: The copy.

    Raises:
      ConfigError: here and in every method, if the copy or a package that it needs is not there, or the
        process ends.
    """

    def __init__(self, folder: str):
        self._process = subprocess.Popen(
            [sys.executable, "-m", __spec__.name, folder],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._works = 0
        try:
            self._answer()
        except ConfigError:
            self.__exit__()
            raise

    def __enter__(self) -> "PeerProcess":
        return self

    def __exit__(self, *_: Any) -> None:
        with contextlib.suppress(OSError):
            self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()

    def train_step(self, size: str) -> Work:
        """See `Peer`."""
        return self._work("train_step", size)

    def forward_pass(self, size: str) -> Work:
        """See `Peer`."""
        return self._work("forward_pass", size)

    def bridge_step(self) -> Work:
        """See `Peer`."""
        return self._work("bridge_step")

    def mask_step(self, size: str) -> Work:
        """See `Peer`."""
        return self._work("mask_step", size)

    def _work(self, method: str, *arguments: str) -> Work:
        self._ask({"method": method, "arguments": arguments})
        place, self._works = self._works, self._works + 1
        return lambda steps: self._ask({"work": place, "steps": steps})

    def _ask(self, question: dict[str, Any]) -> None:
        with contextlib.suppress(BrokenPipeError):  # `_answer` says that it ended
            self._process.stdin.write(json.dumps(question) + "\n")
            self._process.stdin.flush()
        self._answer()

    def _answer(self) -> None:
        line = self._process.stdout.readline()
        error = json.loads(line)["error"] if line else "its process ended; what it printed says why"
        if error is not None:
            raise ConfigError(error)


def serve(folder: str) -> None:
    """Answers the questions of a PeerProcess until there are no more: a line of JSON each."""
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # what its modules print is no answer
    works: list[Work] = []
    peer: Peer | None = None
    for question in itertools.chain([{}], map(json.loads, sys.stdin)):
        error = None
        try:
            if peer is None:
                peer = Peer(folder)
            elif "method" in question:
                works.append(getattr(peer, question["method"])(*question["arguments"]))
            else:
                works[question["work"]](question["steps"])
        except ConfigError as found:
            error = str(found)
        print(json.dumps({"error": error}), file=answers, flush=True)
        if peer is None:
            return


if __name__ == "__main__":
    serve(sys.argv[1])
