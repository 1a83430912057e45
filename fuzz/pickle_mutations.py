"""Hostile pickles, made from sound ones."""

from __future__ import annotations

import pickletools
import struct
from random import Random

_HUGE = (1 << 16, 1 << 31, (1 << 32) - 1, 1 << 50, (1 << 63) - 1, (1 << 64) - 1)
_PIECES = (
    b"\x8cosystem\x94", b"cos\nsystem\n(S'true'\ntR", b"\x8c\x02os\x8c\x06system\x93",
    b"cbuiltins\neval\n", b"ctorch.storage\n_load_from_bytes\n", b"\x82\x01", b"(", b")", b"]",
    b"}", b"a", b"e", b"s", b"u", b"b", b"R", b"\x81", b"\x93", b"\x94", b"Q", b".", b"0", b"2",
    b"h\x00", b"h\xff", b"]" * 3000, b"(" * 3000, b"]" * 2000 + b"a" * 1999, b"N", b"\x88",
    b"I" + b"9" * 5000 + b"\n", b"L" + b"9" * 5000 + b"L\n", b"G\x7f\xf8" + b"\0" * 6, b"F1e999\n",
    b"]\x94h\x00a", b"}\x94(h\x00h\x00u",
)  # fmt: skip


def mutate_pickle(data: bytes, random: Random) -> bytes:
    """Return a pickle with opcodes put in, taken out, doubled, or stating other numbers."""
    out = bytearray(data)
    for _ in range(random.choice((1, 1, 2, 4))):
        places = _places(bytes(out)) or [0]
        place = random.choice(places)
        way = random.randrange(6)
        if way == 0:
            out[place:place] = random.choice(_PIECES)
        elif way == 1:
            del out[place : random.choice(places) if random.random() < 0.3 else place + 1]
        elif way == 2 and out:
            out[random.randrange(len(out))] ^= 1 << random.randrange(8)
        elif way == 3:
            other = random.choice(places)
            out[place:place] = out[min(place, other) : max(place, other)][:2000]
        elif way == 4:
            huge = random.choice(_HUGE)
            wide, narrow = struct.pack("<Q", huge), struct.pack("<I", huge & 0xFFFFFFFF)
            opcode = random.choice(
                (b"\x8d", b"\x8e", b"\x96", b"B", b"X", b"T", b"r", b"j", b"\x8b")
            )
            out[place:place] = opcode + (wide if opcode in b"\x8d\x8e\x96" else narrow)
        else:  # a number in the middle of an argument
            out[place + 1 : place + 1 + random.choice((1, 2, 4, 8))] = bytes(
                random.choice((0, 1, 127, 128, 255)) for _ in range(random.choice((1, 2, 4, 8)))
            )
    return bytes(out)


def _places(data: bytes) -> list[int]:
    """Return where the opcodes stand, as far as they can be read."""
    places = []
    try:
        for _, _, place in pickletools.genops(data):
            places.append(place or 0)
    except Exception:
        pass
    return places
