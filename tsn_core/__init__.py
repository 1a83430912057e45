"""The ground floor: words, formulas, shard format and model shared by both programs."""

from tsn_core.version import __version__

__all__ = ["__version__"]
