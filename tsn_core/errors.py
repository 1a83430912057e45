"""Every error that a user can cause, each one line long.

The command-line programs print the message of a ``TSNError`` and exit with status 1; any other
exception is a bug and keeps its traceback. Each class also inherits the built-in that a library
user would catch. All take exactly one string, so that they survive the way back from a worker
process.
"""

import re

_UNSEEN = re.compile(  # control characters, line breaks, surrogates, changes of direction
    "[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]"
)
_MOST_CHARACTERS, _LAST_CHARACTERS = 2000, 300


def one_line(text: str) -> str:
    r"""Return a message that fits on one line of a terminal, whatever the file said that it quotes.

    Examples:
        >>> one_line("a\nb.avi: no such file")
        'a\\nb.avi: no such file'
        >>> len(one_line("x" * 10_000))
        2000
    """
    if len(text) > _MOST_CHARACTERS:
        head = _MOST_CHARACTERS - _LAST_CHARACTERS - 1
        text = f"{text[:head]}…{text[-_LAST_CHARACTERS:]}"
    return visible(text)


def visible(text: str) -> str:
    r"""Return a text whose control characters, which could disguise the rest, are spelled out.

    Examples:
        >>> visible("a\nb")
        'a\\nb'
    """
    return _UNSEEN.sub(lambda match: match[0].encode("unicode_escape").decode(), text)


class TSNError(Exception):
    """Root of all errors that are the input's or the environment's, not ours."""

    def __str__(self) -> str:
        return one_line(super().__str__())


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


class DeviceError(TSNError, RuntimeError):
    """A GPU fails, or has too little memory."""


class UnknownModalityError(InputError, ShardError):
    """A modality that nobody has installed here, or whose package is broken."""


class UnknownVideoError(InputError, KeyError):
    """A video that is not among those of some shards."""

    def __str__(self) -> str:
        return one_line(str(self.args[0]))  # a KeyError shows its message in quotes


class StoreError(TSNError, OSError):
    """An object store does not answer, or refuses; nothing is known about what lies there."""


class UnreadableError(ShardError):
    """The system does not hand out a shard that is there; nobody knows whether it is sound."""


class SettingsError(TSNError, ValueError):
    """Something already on disk was made with other settings."""


class CheckpointError(TSNError, ValueError):
    """A run folder or checkpoint does not fit what is asked of it."""


class OutputError(TSNError, OSError):
    """A result could not be written."""


class MissingDependencyError(TSNError, ImportError):
    """An optional library is needed for this and not installed."""


class ClusterError(TSNError, ConnectionError):
    """A cluster cannot be reached, or a worker of it cannot do the work."""


class DownloadError(TSNError, OSError):
    """A file could not be fetched, or is not the one that was published."""


class ArchiveError(TSNError, ValueError):
    """An archive is damaged, or holds what must not be unpacked."""
