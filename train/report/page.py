"""One HTML page that needs nothing but itself.

The script and the style stand in the page, and a Content-Security-Policy allows these two, by
their hashes, and pictures in ``data:`` URIs: whatever a name from the data might smuggle in, the
browser neither runs it nor asks another machine for anything.
"""

from __future__ import annotations

import base64
import hashlib
import json
from importlib.resources import files
from typing import Any

from tsn_core.errors import InputError, visible

_SCRIPTS = (
    "base.js",
    "table.js",
    "choice.js",
    "curves.js",
    "matrix_picture.js",
    "matrix.js",
    "classes.js",
    "videos.js",
    "failures.js",
    "printing.js",
)
_ESCAPES = {ord(c): f"\\u{ord(c):04x}" for c in "<>&"}


def render(content: dict[str, Any]) -> str:
    """Return a page as HTML.

    Args:
        content: What ``content.gather`` returns.
    """
    from jinja2 import DictLoader, Environment, StrictUndefined

    folder = files("train.report") / "page"
    texts = {
        name: (folder / name).read_text(encoding="utf-8")
        for name in ("page.html", "macros.html", "style.css", *_SCRIPTS)
    }
    script = "".join(texts[name] for name in _SCRIPTS)
    for name, text in (("script", script), ("style", texts["style.css"])):
        assert f"</{name}" not in text, f"it would end the {name} element"
    environment = Environment(
        loader=DictLoader(texts),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_visible,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"percent": percent, "points": points, "share": share}
    html: str = environment.get_template("page.html").render(
        **content,
        script=script,
        style=texts["style.css"],
        script_hash=_hash(script),
        style_hash=_hash(texts["style.css"]),
        json=data_text(content["data"]),
    )
    return html


def data_text(data: Any) -> str:
    r"""Return JSON that may stand in a ``<script>`` element, whatever its texts hold.

    Raises:
        InputError: A number is not finite.

    Examples:
        >>> data_text(["</script>", "\u2028"])
        '["\\u003c/script\\u003e","\\\\u2028"]'
    """
    try:
        text = json.dumps(
            _visible(data), separators=(",", ":"), allow_nan=False
        )  # ASCII: no U+2028
    except ValueError as error:
        raise InputError(f"a report cannot hold {error}; evaluate the runs again") from None
    return text.translate(_ESCAPES)


def percent(value: float | None, digits: int = 1) -> str:
    """Return a share as a text.

    Examples:
        >>> percent(0.5), percent(None)
        ('50.0%', '–')
    """
    return "–" if value is None else f"{100 * value:.{digits}f}%"


def points(value: float) -> str:
    """Return a difference of shares in points, with a sign.

    Examples:
        >>> points(0.051), points(-0.2)
        ('+5.1', '−20.0')
    """
    return f"{100 * value:+.1f}".replace("-", "−")


def share(value: float, reach: float) -> str:
    """Return a share of some length, as an SVG attribute takes it."""
    return f"{value * reach:.2f}"


def _visible(value: Any) -> Any:
    """Return a value with all texts in it as ``visible`` gives them, but those that are markup."""
    if type(value) is str:
        return visible(value)
    if isinstance(value, (list, tuple)):
        return [_visible(item) for item in value]
    if isinstance(value, dict):
        return {name: _visible(item) for name, item in value.items()}
    return value


def _hash(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
