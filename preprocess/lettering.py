"""Letters on pictures: the typeface that comes with matplotlib, and names fit to be written."""

from __future__ import annotations

import functools
from pathlib import Path

from PIL import ImageFont


@functools.cache
def font(size: int, *, bold: bool = False) -> ImageFont.FreeTypeFont:
    """Return DejaVu Sans: Latin, Greek, Cyrillic, Arabic, symbols.

    Args:
        size: Of the letters, in px.
        bold: Whether they are heavy.
    """
    import matplotlib

    name = "DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf"
    return ImageFont.truetype(str(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / name), size)


def plain(text: str) -> str:
    r"""Return a text in which what cannot be shown is U+FFFD, a question mark in a diamond.

    Examples:
        >>> plain("a\x1bb") == "a\ufffdb"
        True
    """
    return "".join(letter if letter.isprintable() else "\ufffd" for letter in text)
