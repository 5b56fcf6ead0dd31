"""Checkpoints of a run, through orbax: the whole state, written while training goes on."""

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orbax.checkpoint as ocp
from etils import epath
from orbax.checkpoint import checkpoint_managers

from circuits_jax.storage.errors import CheckpointError
from circuits_jax.storage.paths import is_remote
from circuits_jax.training.multihost.processes import all_agree, is_primary, primary_first
from circuits_jax.training.saved_state import OtherModelError, restore_state

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
        self._writes = keep is not None
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

    def restore(self, like: Any, fresh: Callable[[], Any] | None = None) -> Any:
        """The newest state that can be read; a damaged one is told of, and put aside where this run writes.

        Args:
          like: A state of the same structure, of arrays or of ShapeDtypeStructs with shardings.
          fresh: Makes a first state, of which the parts are taken that a checkpoint of an earlier release
            lacks; None lets it lack nothing.

        Raises:
          CheckpointError: if there is none, all are damaged, or the newest is of another model.
        """
        return self._newest_readable(lambda folder: restore_state(folder, like, fresh))

    def restore_params(self, like: Any) -> Any:
        """The parameters alone of the newest checkpoint that can be read; nothing else of it is read.

        Args:
          like: Parameters of the same structure, of arrays or of ShapeDtypeStructs with shardings.

        Raises:
          CheckpointError: as `restore` does.
        """
        only = {"params": like}
        return self._newest_readable(lambda folder: restore_state(folder, only)["params"])

    def _newest_readable(self, read: Callable[[epath.Path], Any]) -> Any:
        self.wait()
        damaged: dict[int, str] = {}
        for step in sorted(self._manager.all_steps(), reverse=True):
            state, why = self._try(read, step)
            if not all_agree(why is None):
                damaged[step] = why or "another process cannot read it"
                continue
            for number, reason in damaged.items():
                self._pass_over(number, reason, step)
            return state
        if damaged:
            reasons = "; ".join(f"{step}: {why}" for step, why in damaged.items())
            raise CheckpointError(
                f"no checkpoint in {self._folder} can be read ({reasons}); all stay as they are: copy one "
                "back from elsewhere, or train in another workdir"
            )
        raise CheckpointError(
            f"no checkpoint in {self._folder}; train first (python -m circuits_jax pretrain)"
        )

    def _try(self, read: Callable[[epath.Path], Any], step: int) -> tuple[Any, str | None]:
        """(what `read` gives of checkpoint `step`, None), or (None, how it is damaged)."""
        try:
            return read(self._manager.directory / str(step)), None
        except OtherModelError:
            raise
        except FILE_ERRORS as error:
            return None, _first_line(error)
        except Exception as error:
            if type(error) is not Exception:
                raise
            # Orbax raises the bare class, with the true error as cause, where a file of values is cut short.
            return None, _first_line(error.__cause__ or error)

    def _pass_over(self, step: int, why: str, instead: int) -> None:
        """Says that checkpoint `step` is damaged; a run that writes puts it aside, to save that step anew."""
        folder, kept = self._folder / str(step), ""
        if self._writes:
            kept = f"; it is kept in {self._put_aside(step)}"
        if is_primary():
            print(f"checkpoint {folder} is damaged ({why}); checkpoint {instead} is taken instead{kept}")

    def _put_aside(self, step: int) -> Path:
        aside = self._folder.parent / "damaged" / str(step)
        with primary_first(f"damaged {step}"):
            if is_primary():
                try:
                    aside.parent.mkdir(exist_ok=True)
                    while aside.exists():
                        aside = aside.with_name(f"{aside.name}+")
                    (self._folder / str(step)).rename(aside)
                except OSError as error:
                    raise CheckpointError(
                        f"the damaged checkpoint {self._folder / str(step)} cannot be moved to {aside}: "
                        f"{error.strerror or error}"
                    ) from error
        self._manager.reload()
        return aside

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
