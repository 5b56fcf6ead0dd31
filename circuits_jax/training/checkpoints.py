"""Checkpoints of a run, through orbax: the whole state, written while training goes on."""

import contextlib
import logging
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import jax
import orbax.checkpoint as ocp
from etils import epath
from orbax.checkpoint import checkpoint_managers

from circuits_jax.data.local_copy import stand_in
from circuits_jax.storage import filenames
from circuits_jax.storage.buckets import BucketPath
from circuits_jax.storage.errors import BucketError, CheckpointError
from circuits_jax.storage.lfs import PointerError, refuse_pointers_in
from circuits_jax.storage.paths import as_path
from circuits_jax.training.multihost.processes import all_agree, fetch, is_primary, primary_first
from circuits_jax.training.saved_state import OtherModelError, restore_state
from circuits_jax.training.staging import InBucket, OnDisk

# What orbax and the layers below it raise on files that are missing, cut short or of another shape, and on
# disks that are full or not to be written to.
FILE_ERRORS = (OSError, ValueError, KeyError, TypeError)
_LOSS = "validation_loss"
_LOOKS = 5  # a run that writes may remove a checkpoint while the folder is being listed


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
        self._folder = folder = as_path(workdir) / filenames.CHECKPOINTS
        self._keep, self._keep_best, self._writes = keep, keep_best, keep is not None
        self._place: InBucket | OnDisk = OnDisk(folder)
        if isinstance(folder, BucketPath):
            self._place = InBucket(folder, stand_in(folder))
        self._manager: Any = None  # of orbax; for a bucket only where a process saves
        self._copier, self._copying = ThreadPoolExecutor(1), Future[None]()
        self._copying.set_result(None)
        try:
            if self._writes:
                folder.parent.mkdir(parents=True, exist_ok=True)
            if isinstance(self._place, OnDisk):
                path = self._place.path
                self._manager = _reader(path) if keep is None else _writer(path, keep, keep_best)
            elif self._writes and is_primary():
                self._place.clear()
                self._manager = ocp.CheckpointManager(self._place.path, options=_staging())
        except OSError as error:
            raise CheckpointError(f"cannot write to {folder}: {error.strerror or error}") from error
        self._known = set(self.steps())

    def steps(self) -> list[int]:
        """Steps of the whole checkpoints, increasing."""
        if isinstance(self._place, InBucket):
            return self._place.steps()
        return sorted(self._manager.all_steps())

    @property
    def latest(self) -> int | None:
        """Step of the newest whole checkpoint, None if there is none."""
        return max(self.steps(), default=None)

    def save(self, step: int, state: Any, validation_loss: float | None = None) -> None:
        """Starts to save `state` as checkpoint `step`, once; returns when the state may be changed.

        Into a bucket, process 0 saves what all have gathered.

        Raises:
          CheckpointError: if this one, or the one before it, cannot be written; earlier ones stay.
        """
        if step in self._known:
            return
        self._known.add(step)
        if isinstance(self._place, InBucket):
            self.wait()
            state = gathered(state)
            if self._manager is None:
                return
        items = ocp.args.Composite(state=ocp.args.StandardSave(state))
        metrics = None if validation_loss is None else {_LOSS: validation_loss}
        self._guarded(self._manager.save, step, args=items, metrics=metrics, force=True)
        if isinstance(self._place, InBucket):
            self._copying = self._copier.submit(self._copy, step, metrics or {})

    def wait(self) -> None:
        """Returns when what is being saved is whole.

        Raises:
          CheckpointError: if it cannot be written.
        """
        if self._manager is not None:
            self._guarded(self._copying.result)
            self._guarded(self._manager.wait_until_finished)

    def restore(self, like: Any, fresh: Callable[[], Any] | None = None) -> Any:
        """The newest state that can be read; a damaged one is told of, and put aside where this run writes.

        Args:
          like: A state of the same structure, of arrays or of ShapeDtypeStructs with shardings.
          fresh: Makes a first state, of which the parts are taken that a checkpoint of an earlier release
            lacks; None lets it lack nothing.

        Raises:
          CheckpointError: if there is none, all are damaged, or the newest is of another model or holds Git
            LFS pointers.
        """
        return self._newest_readable(lambda folder, where: restore_state(folder, like, fresh, where))

    def restore_params(self, like: Any) -> Any:
        """The parameters alone of the newest checkpoint that can be read; nothing else of it is read.

        Args:
          like: Parameters of the same structure, of arrays or of ShapeDtypeStructs with shardings.

        Raises:
          CheckpointError: as `restore` does.
        """
        only = {"params": like}
        return self._newest_readable(lambda folder, where: restore_state(folder, only, None, where)["params"])

    def _newest_readable(self, read: Callable[[epath.Path, str], Any]) -> Any:
        self.wait()
        damaged: dict[int, str] = {}
        for step in reversed(self.steps()):
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

    def _try(self, read: Callable[[epath.Path, str], Any], step: int) -> tuple[Any, str | None]:
        """(what `read` gives of checkpoint `step`, None), or (None, how it is damaged)."""
        try:
            with self._place.reading(step) as folder:
                try:
                    return read(epath.Path(folder), str(self._folder / str(step))), None
                except Exception:
                    refuse_pointers_in(folder, str(self._folder / str(step)))
                    raise
        except (OtherModelError, BucketError, PointerError):
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
        aside = self._folder.parent / filenames.DAMAGED / str(step)
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
        self._known.discard(step)
        if isinstance(self._place, OnDisk):
            self._manager.reload()
        return aside

    def close(self) -> None:
        """Waits for unfinished writes.

        Raises:
          CheckpointError: if they cannot be finished.
        """
        try:
            if self._manager is not None:
                self._guarded(self._copying.result)
                self._guarded(self._manager.close)
        finally:
            self._copier.shutdown()
            if isinstance(self._place, OnDisk) or self._manager is not None:
                self._place.close()

    def _copy(self, step: int, metrics: Mapping[str, float]) -> None:
        """Copies what was saved on disk to the bucket, and removes there what is not to be kept."""
        self._manager.wait_until_finished()
        self._place.upload(step, metrics)
        self._place.remove_all_but(self._keep, self._keep_best, _LOSS)

    def _guarded(self, write: Any, *args: Any, **options: Any) -> None:
        try:
            write(*args, **options)
        except BucketError:
            raise
        except FILE_ERRORS as error:
            last = self.latest
            kept = "there is none yet" if last is None else f"checkpoint {last} is intact"
            raise CheckpointError(
                f"a checkpoint cannot be written to {self._folder} ({_first_line(error)}); {kept}; "
                "make room, or make the folder writable, and give the same command again"
            ) from error


def newest(workdir: Path) -> int | None:
    """Step of the newest whole checkpoint of `workdir`, None if there is none; changes nothing there."""
    with contextlib.closing(Checkpoints(workdir)) as checkpoints:
        return checkpoints.latest


def gathered(state: Any) -> Any:
    """A tree that lies on the devices of several processes as numpy arrays of process 0, of Nones elsewhere;
    that of a single process as it is.
    """
    if jax.process_count() == 1:
        return state

    def whole_leaf(leaf: Any) -> Any:  # one tensor at a time, so that the others need no memory for the whole
        whole = fetch(leaf)
        return whole if is_primary() else None

    return jax.tree.map(whole_leaf, state)


def _staging() -> ocp.CheckpointManagerOptions:
    """Of process 0 alone, which keeps on disk what is on its way to a bucket."""
    return ocp.CheckpointManagerOptions(
        max_to_keep=1,
        enable_async_checkpointing=True,
        multiprocessing_options=ocp.options.MultiprocessingOptions(
            primary_host=0, active_processes={0}, barrier_sync_key_prefix="circuits_jax"
        ),
        create=False,
    )


def _reader(path: Path) -> ocp.CheckpointManager:
    options = ocp.CheckpointManagerOptions(read_only=True, save_interval_steps=0, create=False)
    with _no_warnings_of_orbax():  # that what is opened to be read is read only
        for _ in range(_LOOKS - 1):
            with contextlib.suppress(FileNotFoundError):
                return ocp.CheckpointManager(path, options=options)
        return ocp.CheckpointManager(path, options=options)


@contextlib.contextmanager
def _no_warnings_of_orbax() -> Iterator[None]:
    logger = logging.getLogger("absl")
    before = logger.level
    logger.setLevel(max(before, logging.ERROR))
    try:
        yield
    finally:
        logger.setLevel(before)


def _writer(path: Path, keep: int, keep_best: int) -> ocp.CheckpointManager:
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
    options = ocp.CheckpointManagerOptions(
        preservation_policy=checkpoint_managers.AnyPreservationPolicy(policies),
        enable_async_checkpointing=True,
        cleanup_tmp_directories=True,
    )
    return ocp.CheckpointManager(path, options=options)


def _first_line(error: BaseException) -> str:
    text = str(error).strip()
    return text.splitlines()[0][:200] if text else type(error).__name__
