"""A few frames of a long video, by decoding from key pictures only, checked to be the right ones.

The number of a frame is its place among all frames in the order of showing. A key picture that is
packet k of the file, with l pictures behind it in the file that are shown before it (as in open
groups of pictures), is frame k + l, as everything before it in the file is shown before it; those
that follow are counted in the order of showing. All of this is checked while decoding.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import av
import numpy as np
from av.packet import Packet
from av.video.frame import PictureType, VideoFrame

from preprocess.decoder import Decoder
from preprocess.packets import PacketTable, begins_cleanly

_SEEK_COST = 4  # frames that could be decoded in the time of one seek
_WORTH = 2 / 3  # seeking pays if it decodes at most this part of all frames; else certainty wins
_ATTEMPTS = 3  # key packets before the wanted one that are sought, if seeking goes too far


class Inexact(Exception):  # not an error: the video is decoded as a whole instead
    """Seeking did not give what it should; the frames may be others than numbered."""


@dataclass(frozen=True)
class Run:
    """Frames to be decoded in one go: from a key on, to frame ``last``, or the end if None."""

    key: int
    wanted: tuple[int, ...]
    last: int | None


def plan_runs(
    table: PacketTable, wanted: Sequence[int], reorder_depth: int
) -> tuple[list[Run], int]:
    """Return how to decode the wanted frames, and how many frames are decoded for that.

    The last run always ends with the stream: the number of its last frame proves the others.

    Args:
        table: Of the stream.
        wanted: Numbers of frames, increasing.
        reorder_depth: Pictures that the decoder holds back.
    """
    firsts = table.first_frame[table.keys]
    keys = np.searchsorted(firsts, [*wanted, table.num_frames - 1], side="right") - 1
    delay = reorder_depth + 1
    runs: list[tuple[int, list[int]]] = []
    at, cost = -1, delay + _SEEK_COST
    for frame, key in zip([*wanted, table.num_frames], keys.tolist()):
        anew = frame - int(firsts[key]) + delay + _SEEK_COST
        if not runs or anew < frame - at:
            runs.append((key, []))
            cost += anew
        else:
            cost += frame - at
        at = frame
        runs[-1][1].append(frame)
    *others, (key, tail) = runs
    planned = [Run(key, tuple(frames), frames[-1]) for key, frames in others]
    return [*planned, Run(key, tuple(tail[:-1]), None)], cost


def pays(table: PacketTable, wanted: Sequence[int], reorder_depth: int) -> bool:
    """Return whether seeking to the wanted frames is clearly cheaper than decoding all."""
    return plan_runs(table, wanted, reorder_depth)[1] <= _WORTH * table.num_frames


class Seeker:
    """Decodes chosen frames of one stream from its key pictures."""

    def __init__(
        self,
        decoder: Decoder,
        table: PacketTable,
        keep: Callable[[int, VideoFrame], Any],
        see: Callable[[int, VideoFrame], None],
    ) -> None:
        """Prepare.

        Args:
            decoder: Of the stream.
            table: Its packets.
            keep: Called with number and frame of every wanted one; what it returns is collected.
            see: Called with number and frame of every one that is decoded.
        """
        self._decoder = decoder
        self._table = table
        self._keep = keep
        self._see = see
        self._leading = 0  # most pictures seen that are shown before their key picture
        context = decoder.stream.codec_context
        self._extradata = None if context is None else context.extradata

    def pick(self, wanted: Sequence[int]) -> dict[int, Any]:
        """Return what ``keep`` makes of each wanted frame, by number.

        Args:
            wanted: Numbers of frames, increasing; kept in this order.

        Raises:
            Inexact: Something did not go as it does in a sound stream; nothing is certain.
        """
        runs, _ = plan_runs(self._table, wanted, self._decoder.reorder_depth)
        if runs[0].key > 0:
            self._decode(Run(0, (), 0))  # the video begins with its first packet
        kept: dict[int, Any] = {}
        for run in runs:
            kept.update(self._run(run))
        return kept

    def _run(self, run: Run) -> dict[int, Any]:
        """Decode a run from the right key picture: the given one, or one before."""
        firsts = self._table.first_frame[self._table.keys]
        begin = run.wanted[0] if run.wanted else self._table.num_frames
        key = min(run.key, int(np.searchsorted(firsts, begin - self._leading, side="right")) - 1)
        for earlier in range(key, -1, -1):
            kept = self._decode(Run(earlier, run.wanted, run.last))
            if kept is not None:
                return kept
        raise Inexact("frames are shown before the first packet")

    def _decode(self, run: Run) -> dict[int, Any] | None:
        """Decode a run and check every frame; None if a wanted one is shown before its key."""
        table = self._table
        origin: int | None = None  # time of showing of the key picture
        waiting: list[int] = []  # those of packets whose frames are still to come
        last_shown: int | None = None
        leading = 0
        number = int(table.first_frame[table.keys[run.key]])
        wanted = set(run.wanted)
        kept: dict[int, Any] = {}
        for place, packet in self._packets(int(table.keys[run.key])):
            if packet.size and table.shows(place):
                if packet.pts is None:
                    raise Inexact("a packet has no time")
                origin = packet.pts if origin is None else origin
                if last_shown is not None and packet.pts <= last_shown:
                    raise Inexact("a packet comes too late to be shown")
                if packet.pts >= origin:
                    heapq.heappush(waiting, packet.pts)
                else:
                    leading += 1
                    self._leading = max(self._leading, leading)
            damaged = self._decoder.damaged_packets
            frames = self._decoder.decode(packet)
            if self._decoder.damaged_packets > damaged:
                raise Inexact("a packet is damaged")
            for frame in frames:
                if frame.pts is None or origin is None:
                    raise Inexact("a frame has no time")
                if frame.pts < origin and last_shown is None:
                    continue  # shown before the key picture: others are missing for it
                if frame.is_corrupt:
                    raise Inexact("a frame is damaged")
                if not waiting or heapq.heappop(waiting) != frame.pts or frame.pts == last_shown:
                    raise Inexact("a frame is missing, or comes out of order")
                if last_shown is None:
                    number += leading
                    if leading and run.key == 0:
                        raise Inexact("pictures before the first are missing")
                    if frame.pict_type != PictureType.I:
                        raise Inexact("the key picture refers to others")
                    if number > min(wanted, default=number):
                        return None
                last_shown = frame.pts
                self._see(number, frame)
                if number in wanted:
                    kept[number] = self._keep(number, frame)
                if number == run.last:
                    return kept
                number += 1
        if run.last is not None or waiting or number != table.num_frames:
            raise Inexact(f"{number} frames where {table.num_frames} packets show one")
        return kept

    def _packets(self, first: int) -> Iterator[tuple[int, Packet[Any]]]:
        """Yield packets with their numbers from that key packet to the end, and an empty one.

        Raises:
            Inexact: They are others than listed, or decoding cannot begin at this one.
        """
        table, decoder = self._table, self._decoder
        position = int(np.searchsorted(table.keys, first))
        for target in table.targets[max(position - _ATTEMPTS + 1, 0) : position + 1][::-1]:
            try:
                decoder.seek(int(target))
            except av.error.FFmpegError as error:
                raise Inexact("the container cannot be sought in") from error
            number: int | None = None
            for packet in decoder.packets():
                if not packet.size and packet.dts is None:
                    if number is None:
                        break
                    if number != table.num_packets:
                        raise Inexact("packets are missing")
                    yield number, packet
                    return
                if number is None:
                    number = table.find(packet)
                    if number is None:  # a part of a packet, as in the middle of a transport stream
                        continue
                    if number > first:
                        break
                elif not table.is_number(packet, number):
                    raise Inexact("packets are others than listed")
                if number == first and not begins_cleanly(
                    decoder.codec, self._extradata, bytes(packet)
                ):
                    raise Inexact("decoding cannot begin at this key packet")
                if number >= first:
                    yield number, packet
                number += 1
        raise Inexact("the packet is not where the list says")
