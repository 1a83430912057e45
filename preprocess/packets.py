"""The list of a stream's packets, made without decoding: where to seek to, and what to expect."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from av.packet import Packet

from preprocess.decoder import Decoder

_WHOLE_INDEX = ("mov", "avi")  # containers that list every packet ahead of reading them
_NOT_CODED = 20  # bytes; an MPEG-4 picture "not coded" is smaller than this, and gives no frame
_BY_DECODING_TIME = ("mpegts", "mpeg")  # containers whose time stamps are sought in that order
_MOST_PACKETS = 20_000_000  # a week at 30 Hz


@dataclass(frozen=True)
class PacketTable:
    """What packets a stream has, in their order in the file, which is that of decoding.

    Attributes:
        mark: Which field of a packet tells it from all others.
        marks: Its value for every packet, shape (N,) int64, increasing.
        sizes: Of the packets, in bytes, shape (N,) int32.
        first_frame: How many of the packets before each one give a frame, shape (N + 1,) int64.
        keys: Numbers of the packets at which decoding can begin, int64, increasing, from 0.
        targets: Time stamps that lead to these when sought, int64.
    """

    mark: Literal["dts", "pos"]
    marks: np.ndarray
    sizes: np.ndarray
    first_frame: np.ndarray
    keys: np.ndarray
    targets: np.ndarray

    @property
    def num_packets(self) -> int:
        """Packets of the stream."""
        return len(self.marks)

    @property
    def num_frames(self) -> int:
        """Frames that an undamaged stream of these packets has."""
        return int(self.first_frame[-1])

    def find(self, packet: Packet[Any]) -> int | None:
        """Return the number of a packet, or None if it is not one of these."""
        value = getattr(packet, self.mark)
        if value is None:
            return None
        number = int(np.searchsorted(self.marks, value))
        return number if self.is_number(packet, number) else None

    def is_number(self, packet: Packet[Any], number: int) -> bool:
        """Return whether this packet is that one of the list."""
        return (
            number < len(self.marks)
            and getattr(packet, self.mark) == self.marks[number]
            and packet.size == self.sizes[number]
        )

    def shows(self, number: int) -> bool:
        """Return whether that packet gives a frame."""
        return bool(self.first_frame[number + 1] > self.first_frame[number])


def listed_packets(decoder: Decoder, file_size: int) -> tuple[PacketTable | None, bool]:
    """Return the list of packets that the container states, or None if it is not to rely on.

    Args:
        decoder: Of the file; it is not read from.
        file_size: In bytes; packets beyond it are missing.

    Returns:
        (table, stated): ``stated`` is whether the container has a list of all packets at all.
    """
    names = decoder.format.split(",")
    if not any(name in _WHOLE_INDEX for name in names) or not decoder.stream.frames:
        return None, False
    if decoder.codec == "vp8" or (decoder.codec == "vp9" and names[0] == "avi"):
        return None, False  # packets may be of pictures that are not shown
    entries = decoder.stream.index_entries
    stamps, sizes, flags = array("q"), array("i"), array("b")
    end = 0
    for entry in entries:
        stamps.append(entry.timestamp)
        sizes.append(entry.size)
        flags.append(entry.flags)
        end = max(end, entry.pos + entry.size)
    if not stamps or end > file_size or len(stamps) > _MOST_PACKETS:
        return None, True
    if names[0] != "avi" and len(stamps) != decoder.stream.frames:  # as with an edit list
        return None, True
    bits = np.frombuffer(flags, np.int8)
    keys = np.flatnonzero(bits & 1)
    marks = np.frombuffer(stamps, np.int64)
    return _checked(decoder, "dts", marks, sizes, (bits & 2) == 0, keys, marks[keys]), True


def read_packets(decoder: Decoder, beat: Callable[[], None] | None) -> PacketTable | None:
    """Return the list of packets made by reading them all, or None if it is not to rely on.

    Args:
        decoder: Of the file, which is read to its end; a few hundredths of the time of decoding.
        beat: Called for every packet.
    """
    places, sizes, shown = array("q"), array("i"), array("b")
    keys, targets = array("q"), array("q")
    shows = SHOWS.get(decoder.codec)
    for packet in decoder.packets():
        if packet.dts is None and packet.pts is None and not packet.size:
            break
        if (
            packet.pos is None
            or not packet.size
            or packet.is_corrupt
            or len(places) >= _MOST_PACKETS
        ):
            return None
        if packet.is_keyframe:
            stamp = packet.dts if decoder.format in _BY_DECODING_TIME else packet.pts
            if stamp is None:
                return None
            keys.append(len(places))
            targets.append(stamp)
        places.append(packet.pos)
        sizes.append(packet.size)
        shown.append(not packet.is_discard and (shows is None or shows(memoryview(packet))))
        if beat is not None:
            beat()
    if not places:
        return None
    return _checked(
        decoder,
        "pos",
        np.frombuffer(places, np.int64),
        sizes,
        np.frombuffer(shown, np.int8) != 0,
        np.frombuffer(keys, np.int64),
        np.frombuffer(targets, np.int64),
    )


def _checked(
    decoder: Decoder,
    mark: Literal["dts", "pos"],
    marks: np.ndarray,
    sizes: Sequence[int],
    shown: np.ndarray,
    keys: np.ndarray,
    targets: np.ndarray,
) -> PacketTable | None:
    if min(sizes) < (_NOT_CODED if decoder.codec == "mpeg4" else 1):
        return None
    if len(keys) == 0 or keys[0] != 0 or not shown[0] or np.any(np.diff(marks) <= 0):
        return None
    shown_keys = shown[keys]
    return PacketTable(
        mark,
        marks,
        np.asarray(sizes, np.int32),
        np.concatenate([[0], np.cumsum(shown, dtype=np.int64)]),
        keys[shown_keys],
        targets[shown_keys],
    )


def _vp8_shows(data: memoryview) -> bool:
    """RFC 6386, section 9.1: bit 4 of the frame tag."""
    return len(data) > 0 and bool(data[0] >> 4 & 1)


def _vp9_shows(data: memoryview) -> bool:
    """VP9 bitstream specification, sections 6.2 and annex B: a superframe shows its last frame."""
    if len(data) == 0:
        return False
    index = 2 + ((data[-1] >> 3 & 3) + 1) * ((data[-1] & 7) + 1)
    if data[-1] >> 5 == 0b110 and len(data) >= index and data[-index] == data[-1]:
        return True
    bits = (data[0] << 8 | data[1]) if len(data) > 1 else data[0] << 8
    at = 11 - (bits >> 12 & 0b11 == 0b11)  # behind the marker, the profile, its reserved bit
    return bool(bits >> at & 1 or bits >> (at - 2) & 1)  # a frame shown again, or shown now


SHOWS: dict[str, Callable[[memoryview], bool]] = {"vp8": _vp8_shows, "vp9": _vp9_shows}


def begins_cleanly(codec: str, extradata: bytes | None, data: bytes) -> bool:
    """Return whether decoding that begins at a key packet gives what decoding from the start does.

    The containers' key flags alone do not say so for H.264 and HEVC, in whose streams pictures may
    refer to others from before a key picture.

    Args:
        codec: FFmpeg's name of the format.
        extradata: What the container stores ahead of the packets.
        data: The key packet.

    Source: ITU-T H.264, table 7-1 and section D.2.8 (recovery point); H.265, table 7-1.
    """
    if codec not in _CLEAN:
        return False
    if codec not in ("h264", "hevc"):
        return True
    for unit in _units(codec, extradata, data):
        if codec == "h264":
            kind = unit[0] & 31
            if kind == 5 or (kind == 6 and _recovers_at_once(unit[1:])):
                return True
            if 1 <= kind <= 4:
                return False
        else:
            kind = unit[0] >> 1 & 63
            if kind < 32:
                return 16 <= kind <= 23
    return False


_CLEAN = ("av1", "ffv1", "h264", "hevc", "mjpeg", "mpeg1video", "mpeg2video", "mpeg4", "vp8", "vp9")


def _units(codec: str, extradata: bytes | None, data: bytes) -> list[bytes]:
    """Return the NAL units of a packet, which have lengths (MP4) or start codes before them."""
    at = 4 if codec == "h264" else 21
    units = []
    if extradata is not None and len(extradata) > at and extradata[0] == 1:
        width = (extradata[at] & 3) + 1
        begin = 0
        while begin + width <= len(data):
            length = int.from_bytes(data[begin : begin + width], "big")
            begin += width
            units.append(data[begin : begin + length])
            begin += length
    else:
        units = data.split(b"\0\0\1")[1:]
    return [unit for unit in units if unit]


def _recovers_at_once(message: bytes) -> bool:
    """Return whether SEI messages hold a recovery point of 0 frames that matches exactly."""
    data = message.replace(b"\0\0\3", b"\0\0")
    at = 0
    while at + 2 < len(data):
        fields = []
        for _ in range(2):  # type and size, each in steps of 255
            value = 0
            while at < len(data) and data[at] == 255:
                value += 255
                at += 1
            if at == len(data):
                return False
            fields.append(value + data[at])
            at += 1
        kind, size = fields
        if kind == 6 and at < len(data):
            return data[at] >> 6 == 0b11  # ue(v) 0 is one bit set; then exact_match_flag
        at += size
    return False
