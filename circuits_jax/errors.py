"""Errors that are meant for the person at the keyboard: one line, what, where, and the way out.

The experiments print such an error alone; any other exception is a defect and keeps its traceback.
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


class TrainingError(UserError):
    """A run that cannot go on, such as one whose loss is no longer finite."""
