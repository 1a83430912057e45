"""A picture in the terminal, where the terminal can show one.

What it can is told by its environment variables alone: asking it would hang where nobody answers.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping

from PIL import Image
from rich.color import Color
from rich.console import Console
from rich.segment import Segment, Segments
from rich.style import Style

_CHUNK = 4096  # characters of a message to kitty
_MOST_PIXELS = 1600  # along the longer side: a preview, over a slow connection perhaps


def protocol(environment: Mapping[str, str], colors: str | None) -> str | None:
    """Return how to show a picture: ``kitty``, ``iterm``, ``blocks``, or None where nothing can.

    Args:
        environment: Variables, as in ``os.environ``.
        colors: Of the terminal, as ``rich.console.Console.color_system`` says.
    """
    inside = "TMUX" in environment or environment.get("TERM", "").startswith(("screen", "tmux"))
    program = environment.get("TERM_PROGRAM", "").lower()
    if not inside:
        if "KITTY_WINDOW_ID" in environment or program == "ghostty":
            return "kitty"
        if program in ("iterm.app", "wezterm"):
            return "iterm"
    return "blocks" if colors in ("truecolor", "256") else None


def show(picture: Image.Image, console: Console, environment: Mapping[str, str]) -> bool:
    """Show a picture in the terminal; return whether it could be shown."""
    how = protocol(environment, console.color_system) if console.is_terminal else None
    if how is None:
        return False
    if how == "blocks":
        console.print(half_blocks(picture, console.width))
        return True
    small = picture.copy()
    small.thumbnail((_MOST_PIXELS, _MOST_PIXELS))
    file = io.BytesIO()
    small.save(file, "PNG")
    text = base64.b64encode(file.getvalue()).decode()
    console.file.write((_kitty(text) if how == "kitty" else _iterm(text)) + "\n")
    console.file.flush()
    return True


def half_blocks(picture: Image.Image, columns: int) -> Segments:
    """Return a picture as letters: each is the upper of two pixels on the colour of the lower.

    Args:
        picture: RGB.
        columns: Of the terminal.
    """
    width = min(columns, picture.width)
    height = max(round(picture.height * width / picture.width / 2), 1) * 2
    pixels = picture.convert("RGB").resize((width, height), Image.Resampling.LANCZOS).load()
    assert pixels is not None
    letters = []
    for y in range(0, height, 2):
        for x in range(width):
            upper, lower = (Color.from_rgb(*pixels[x, row]) for row in (y, y + 1))  # type: ignore[misc]
            letters.append(Segment("▀", Style(color=upper, bgcolor=lower)))
        letters.append(Segment.line())
    return Segments(letters)


def _kitty(text: str) -> str:
    """Return the messages of kitty's graphics protocol: PNG, shown at once, in chunks."""
    chunks = [text[start : start + _CHUNK] for start in range(0, len(text), _CHUNK)]
    messages = []
    for number, chunk in enumerate(chunks):
        keys = "f=100,a=T," if number == 0 else ""
        more = int(number < len(chunks) - 1)
        messages.append(f"\x1b_G{keys}m={more};{chunk}\x1b\\")
    return "".join(messages)


def _iterm(text: str) -> str:
    """Return the message of iTerm2's inline images protocol."""
    return f"\x1b]1337;File=inline=1;width=100%:{text}\x07"
