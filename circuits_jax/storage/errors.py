"""Errors that are meant for the person at the keyboard: one line, what, where, and the way out.

The commands print such an error alone; any other exception is a defect and keeps its traceback.
"""


class UserError(ValueError):
    """Something the user gave cannot be used."""


class ConfigError(UserError):
    """A setting that cannot be used."""


class TaskError(UserError):
    """A task that does not exist, or that this tokenizer or this model cannot do."""


class CheckpointError(UserError):
    """A checkpoint or a model file that cannot be read or written, or that is of another model."""


class CircuitError(UserError):
    """A circuit file that cannot be read, or that does not belong to the model at hand."""


class BridgeError(UserError):
    """Two models that no bridge can join, a bridge of other models, or an edit that cannot be made."""


class CorpusError(UserError):
    """A run's corpus that is missing, damaged or out of reach."""


class MemoryLackError(UserError):
    """A device, or the machine, without the memory that was asked for."""


class BucketError(UserError):
    """A bucket that is not there, that is closed to the account, or that no account was given for."""


class TrainingError(UserError):
    """A run that cannot go on, such as one whose loss is no longer finite."""


class DivergenceError(TrainingError):
    """A run whose loss, or a parameter, is no longer finite."""


class ProcessError(UserError):
    """The processes of a run cannot find each other, or one of them is gone."""


class LockError(UserError):
    """A folder that another process is writing to."""


class Stopped(KeyboardInterrupt):
    """A program that was asked to stop and has saved what there was: no mistake of anybody's.

    No library takes it for a failure of its own, which it may do with an Exception.

    Attributes:
      code: What a command exits with: 128 and the signal's number.
      agreed: Whether all processes of the run stop, at the same place.
    """

    def __init__(self, message: str, code: int = 143, agreed: bool = False):
        super().__init__(message)
        self.code, self.agreed = code, agreed


def check_kind(what: str, value: object, kinds: type | tuple[type, ...], way_out: str) -> None:
    """Raises ConfigError unless `value` is of one of `kinds`.

    Args:
      what: It is given as, such as "the task".
      value: As a caller gave it.
      kinds: Classes.
      way_out: What to give.
    """
    if not isinstance(value, kinds):
        plain = value is None or isinstance(value, str | bytes | int | float)
        raise ConfigError(
            f"{what} is {repr(value) if plain else f'a {type(value).__name__}'}; give {way_out}"
        )
