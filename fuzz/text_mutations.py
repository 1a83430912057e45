"""Hostile texts and JSON, made from sound ones."""

from __future__ import annotations

import json
from random import Random
from typing import Any

_PIECES = (
    b"\0", b"\n", b"\r\n", b"\xef\xbb\xbf", b"\xff\xfe", b"\xed\xa0\x80", b"\xc3", b" ", b"\t",
    b"..", b"/", b"\\", b"C:", b"-1", b"0", b"99999", b"9" * 5000, b"1e999", b"NaN",
    b"\xe2\x80\xa8", b"\x1b[2J", b"\xd9\xa3", b"\xc2\xb2", b"[" * 3000, b"{", b"}", b"\x85",
    b"\x0c", b"a" * 2000,
)  # fmt: skip
_VALUES: tuple[Any, ...] = (
    None, True, False, 0, -1, 1, 1.5, 1e308, float("nan"), float("inf"), 10**30, 10**400, 1 << 63,
    "", "x", "\0", "a\nb", "\ud800", "../x", "é" * 200, "9" * 5000, [], {}, [[]], {"": None},
    [0] * 50, ["x"] * 50, {"1": "train"}, {"9" * 5000: "test"},
)  # fmt: skip


def mutate_text(data: bytes, random: Random) -> bytes:
    """Return a text with pieces changed, put in, taken out, or lines in another order."""
    out = bytearray(data)
    for _ in range(random.choice((1, 1, 2, 4))):
        way = random.randrange(6)
        place = random.randrange(len(out) + 1)
        if way == 0:
            out[place:place] = random.choice(_PIECES)
        elif way == 1:
            del out[place : place + random.choice((1, 4, 50))]
        elif way == 2 and place < len(out):
            out[place] ^= 1 << random.randrange(8)
        elif way == 3:
            lines = bytes(out).split(b"\n")
            lines.insert(random.randrange(len(lines) + 1), random.choice(lines))
            out = bytearray(b"\n".join(lines))
        elif way == 4:
            out[place : place + 1] = random.choice(_PIECES)
        else:
            words = bytes(out).split(b" ")
            words[random.randrange(len(words))] = random.choice(_PIECES)
            out = bytearray(b" ".join(words))
    return bytes(out)


def mutate_json(data: bytes, random: Random) -> bytes:
    """Return JSON, or JSON lines, with a value replaced, doubled, renamed, dropped or nested."""
    lines = data.split(b"\n")
    number = random.randrange(len(lines)) if _is_json(lines[0]) else None
    if not _is_json(data if number is None else lines[number] or b"null"):
        return mutate_text(data, random)
    content = json.loads((data if number is None else lines[number]) or b"null")
    for _ in range(random.choice((1, 1, 2, 3))):
        content = _changed(content, random)
    text = json.dumps(content).encode()
    if random.random() < 0.1:
        text = b'{"a":' * 5000 + text + b"}" * 5000
    if random.random() < 0.2:
        text = mutate_text(text, random)
    if number is None:
        return text
    lines[number] = text
    return b"\n".join(lines)


def _is_json(data: bytes) -> bool:
    try:
        json.loads(data)
    except (ValueError, RecursionError):
        return False
    return True


def _changed(content: Any, random: Random) -> Any:
    """Return JSON content with one value in it changed."""
    if isinstance(content, dict) and content and random.random() < 0.85:
        content = dict(content)
        key = random.choice(list(content))
        way = random.randrange(8)
        if way == 0:
            del content[key]
        elif way == 1:
            content[str(random.choice(_VALUES))[:50]] = content[key]
        else:
            content[key] = _changed(content[key], random)
        return content
    if isinstance(content, list) and content and random.random() < 0.85:
        content = list(content)
        place = random.randrange(len(content))
        way = random.randrange(5)
        if way == 0:
            content.append(content[place])
        elif way == 1:
            del content[place]
        else:
            content[place] = _changed(content[place], random)
        return content
    return random.choice(_VALUES)
