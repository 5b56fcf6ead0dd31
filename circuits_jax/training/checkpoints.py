"""Checkpoints of a run, through orbax: the whole state and the position in the data."""

import logging
from pathlib import Path
from typing import Any

import orbax.checkpoint as ocp

from circuits_jax.errors import CheckpointError
from circuits_jax.training.state import TrainState

# What orbax and the layers below it raise on files that are missing, cut short or of another shape.
READ_ERRORS = (OSError, ValueError, KeyError, TypeError)


class Checkpoints:
    """The checkpoints of one workdir; each is written aside and renamed when whole."""

    def __init__(self, workdir: Path, keep: int):
        logging.getLogger("absl").setLevel(logging.ERROR)  # orbax reports every file it touches
        self._folder = (workdir / "checkpoints").absolute()
        options = ocp.CheckpointManagerOptions(
            max_to_keep=keep, enable_async_checkpointing=False, cleanup_tmp_directories=True
        )
        self._manager = ocp.CheckpointManager(self._folder, options=options)

    @property
    def latest(self) -> int | None:
        """Step of the newest checkpoint, None if there is none."""
        return self._manager.latest_step()

    def save(self, step: int, state: TrainState, position: dict[str, Any]) -> None:
        """Saves `state` and the data iterator's JSON `position` as checkpoint `step`, once."""
        if step in self._manager.all_steps():
            return
        items = ocp.args.Composite(state=ocp.args.StandardSave(state), data=ocp.args.JsonSave(position))
        self._manager.save(step, args=items, force=True)

    def restore(self, like: TrainState) -> tuple[TrainState, dict[str, Any]]:
        """The newest state and data position.

        Args:
          like: A state of the same structure, of arrays or of ShapeDtypeStructs with shardings.

        Raises:
          CheckpointError: if the newest checkpoint is damaged or of another model.
        """
        step = self.latest
        if step is None:
            raise CheckpointError(f"no checkpoint in {self._folder}; train first (experiments.pretrain)")
        items = ocp.args.Composite(state=ocp.args.StandardRestore(like), data=ocp.args.JsonRestore())
        try:
            restored = self._manager.restore(step, args=items)
        except READ_ERRORS as error:
            raise CheckpointError(self._explain(step, error)) from error
        except Exception as error:
            if type(error) is not Exception:
                raise
            # Orbax raises the bare class, with the true error as cause, where a file of values is cut short.
            raise CheckpointError(self._explain(step, error.__cause__ or error)) from error
        return restored.state, restored.data

    def close(self) -> None:
        """Waits for unfinished writes."""
        self._manager.close()

    def _explain(self, step: int, error: BaseException) -> str:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        others = [s for s in self._manager.all_steps() if s != step]
        way_out = f"the run goes on from step {max(others)}" if others else "the run starts again"
        return (
            f"checkpoint {self._folder / str(step)} cannot be read: {reason[:200]}; it is damaged or of "
            f"another configuration (delete that folder and {way_out})"
        )
