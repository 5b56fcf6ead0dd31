"""Checkpoints of a run, through orbax: the whole state, written while training goes on."""

import contextlib
from pathlib import Path
from typing import Any

import orbax.checkpoint as ocp
from orbax.checkpoint import checkpoint_managers

from circuits_jax.storage.errors import CheckpointError
from circuits_jax.storage.paths import is_remote

# What orbax and the layers below it raise on files that are missing, cut short or of another shape, and on
# disks that are full or not to be written to.
FILE_ERRORS = (OSError, ValueError, KeyError, TypeError)
_LOSS = "validation_loss"


class Checkpoints:
    """The checkpoints of one workdir; written aside by all processes together, renamed when whole."""

    def __init__(self, workdir: Path, keep: int | None = None, keep_best: int = 0):
        """Args:
          workdir: Its folder `checkpoints` is used; a local folder or a bucket.
          keep: Newest checkpoints kept.  None only reads: nothing is made or removed, so that a run that is
            writing there at the same time is left alone.  A number clears away what a killed run left half
            written.
          keep_best: Checkpoints of lowest validation loss kept beside them.

        Raises:
          CheckpointError: if the folder cannot be made.
        """
        self._folder = (workdir if is_remote(workdir) else workdir.absolute()) / "checkpoints"
        options = _reading() if keep is None else _writing(keep, keep_best)
        try:
            self._manager = ocp.CheckpointManager(self._folder, options=options)
        except OSError as error:
            raise CheckpointError(f"cannot write to {self._folder}: {error.strerror or error}") from error

    @property
    def latest(self) -> int | None:
        """Step of the newest whole checkpoint, None if there is none."""
        return self._manager.latest_step()

    def save(self, step: int, state: Any, validation_loss: float | None = None) -> None:
        """Starts to save `state` as checkpoint `step`, once; returns when the state may be changed.

        Raises:
          CheckpointError: if this one, or the one before it, cannot be written; earlier ones stay.
        """
        if step in self._manager.all_steps():
            return
        items = ocp.args.Composite(state=ocp.args.StandardSave(state))
        metrics = None if validation_loss is None else {_LOSS: validation_loss}
        self._guarded(self._manager.save, step, args=items, metrics=metrics, force=True)

    def wait(self) -> None:
        """Returns when what is being saved is whole.

        Raises:
          CheckpointError: if it cannot be written.
        """
        self._guarded(self._manager.wait_until_finished)

    def restore(self, like: Any) -> Any:
        """The newest state.

        Args:
          like: A state of the same structure, of arrays or of ShapeDtypeStructs with shardings.

        Raises:
          CheckpointError: if the newest checkpoint is damaged or of another model.
        """
        step = self.latest
        if step is None:
            raise CheckpointError(
                f"no checkpoint in {self._folder}; train first (python -m circuits_jax pretrain)"
            )
        items = ocp.args.Composite(state=ocp.args.StandardRestore(like))
        try:
            return self._manager.restore(step, args=items).state
        except FILE_ERRORS as error:
            raise CheckpointError(self._unreadable(step, error)) from error
        except Exception as error:
            if type(error) is not Exception:
                raise
            # Orbax raises the bare class, with the true error as cause, where a file of values is cut short.
            raise CheckpointError(self._unreadable(step, error.__cause__ or error)) from error

    def close(self) -> None:
        """Waits for unfinished writes.

        Raises:
          CheckpointError: if they cannot be finished.
        """
        self._guarded(self._manager.close)

    def _guarded(self, write: Any, *args: Any, **options: Any) -> None:
        try:
            write(*args, **options)
        except FILE_ERRORS as error:
            last = self._manager.latest_step()
            kept = "there is none yet" if last is None else f"checkpoint {last} is intact"
            raise CheckpointError(
                f"a checkpoint cannot be written to {self._folder} ({_first_line(error)}); {kept}; "
                "make room, or make the folder writable, and give the same command again"
            ) from error

    def _unreadable(self, step: int, error: BaseException) -> str:
        others = [s for s in self._manager.all_steps() if s != step]
        way_out = f"the run goes on from step {max(others)}" if others else "the run starts again"
        return (
            f"checkpoint {self._folder / str(step)} cannot be read: {_first_line(error)}; it is damaged or "
            f"of another configuration (delete that folder and {way_out})"
        )


def newest(workdir: Path) -> int | None:
    """Step of the newest whole checkpoint of `workdir`, None if there is none; changes nothing there."""
    with contextlib.closing(Checkpoints(workdir)) as checkpoints:
        return checkpoints.latest


def _reading() -> ocp.CheckpointManagerOptions:
    return ocp.CheckpointManagerOptions(read_only=True, save_interval_steps=0, create=False)


def _writing(keep: int, keep_best: int) -> ocp.CheckpointManagerOptions:
    policies = [checkpoint_managers.LatestN(keep)]
    if keep_best:
        policies.append(
            checkpoint_managers.BestN(
                get_metric_fn=lambda metrics: metrics[_LOSS],
                reverse=True,
                n=keep_best,
                keep_checkpoints_without_metrics=False,
            )
        )
    return ocp.CheckpointManagerOptions(
        preservation_policy=checkpoint_managers.AnyPreservationPolicy(policies),
        enable_async_checkpointing=True,
        cleanup_tmp_directories=True,
    )


def _first_line(error: BaseException) -> str:
    text = str(error).strip()
    return text.splitlines()[0][:200] if text else type(error).__name__
