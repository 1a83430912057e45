"""Every error that a user can cause, each one line long.

The command-line programs print the message of a ``TSNError`` and exit with status 1; any other
exception is a bug and keeps its traceback. Each class also inherits the built-in that a library
user would catch. All take exactly one string, so that they survive the way back from a worker
process.
"""


class TSNError(Exception):
    """Root of all errors that are the input's or the environment's, not ours."""


class InputError(TSNError, ValueError):
    """An argument, a list file or a dataset is not what was asked for."""


class VideoError(TSNError, OSError):
    """A video file could not be extracted.

    Attributes:
        stage: Where that came up: open, decode, a modality's name, encode, crash, timeout or
            memory; None where nobody has said.
    """

    stage: str | None = None


class ShardError(TSNError, OSError):
    """A shard or its index is damaged, or of another format."""


class SettingsError(TSNError, ValueError):
    """Something already on disk was made with other settings."""


class CheckpointError(TSNError, ValueError):
    """A run folder or checkpoint does not fit what is asked of it."""


class OutputError(TSNError, OSError):
    """A result could not be written."""


class MissingDependencyError(TSNError, ImportError):
    """An optional library is needed for this and not installed."""
