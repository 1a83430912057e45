"""Units of flow that are made many at a time."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from preprocess.camera import stabilised
from preprocess.flow_service import FlowService, Pending
from preprocess.units import Frame, Unit
from tsn_core.quantization import quantize_flow

MOST_BYTES = 32 << 20  # of one batch from one video: others are in flight beside it
MOST_IN_FLIGHT = 3  # batches of one video
_PAIR_BYTES = 2 * 4 + 1  # for each pixel: its flow, and its share of the frames

Pairs = Sequence[tuple[Frame, Frame]]


class BatchMaker:
    """Makes units of flow, with or without the camera's motion, of many pairs at a time.

    What it makes of a pair does not depend on the others, to the last bit.
    """

    def __init__(self, service: FlowService, bound: float, *, warps: bool) -> None:
        """Take what computes flow.

        Args:
            service: Computes flow.
            bound: In px; see ``quantize_flow``.
            warps: Whether to take the camera's motion out.
        """
        self._service = service
        self._bound = bound
        self._warps = warps
        self._most: dict[tuple[int, int], int] = {}

    def most_units(self, size: tuple[int, int]) -> int:
        """Return how many units of frames of a size, (height, width), to make at a time."""
        if size not in self._most:
            height, width = size
            few = MOST_BYTES // (_PAIR_BYTES * height * width)
            self._most[size] = max(min(self._service.most_pairs(height, width), few), 1)
        return self._most[size]

    def in_flight(self, size: tuple[int, int]) -> int:
        """Return how many batches of frames of a size may be begun before the first is ended."""
        batch = self.most_units(size) * _PAIR_BYTES * size[0] * size[1]
        return max(min(MOST_IN_FLIGHT * MOST_BYTES // batch, MOST_IN_FLIGHT), 1)

    def begin(self, pairs: Pairs) -> Callable[[], list[Unit]]:
        """Begin units from their first and last frames, and return what waits for them.

        Raises:
            InputError, DeviceError: See ``FlowService.submit``; the returned function raises them,
                too.
        """
        flow = self._submit(pairs)
        return lambda: self._units(pairs, flow)

    def _submit(self, pairs: Pairs, seconds: Sequence[np.ndarray] | None = None) -> Pending:
        """Ask for the flow of pairs, or from their first frames to others."""
        places: dict[int, int] = {}
        images: list[np.ndarray] = []

        def place(frame: Frame) -> int:  # a frame ends one pair and begins the next
            if id(frame) not in places:
                places[id(frame)] = len(images)
                images.append(self._image(frame))
            return places[id(frame)]

        wanted = []
        for number, (first, last) in enumerate(pairs):
            start = place(first)
            if seconds is None:
                wanted.append((start, place(last)))
            else:
                wanted.append((start, len(images)))
                images.append(seconds[number])
        return self._service.submit(images, np.array(wanted, np.int32))

    def _image(self, frame: Frame) -> np.ndarray:
        return frame.rgb if self._service.in_colour else frame.gray

    def _units(self, pairs: Pairs, pending: Pending) -> list[Unit]:
        with pending() as flow:
            units = [Unit(quantize_flow(one, self._bound)) for one in flow]
            steady = [self._steady(*pair, one) for pair, one in zip(pairs, flow)]
        accepted = [number for number, image in enumerate(steady) if image is not None]
        if accepted:
            seconds = [image for image in steady if image is not None]
            again = self._submit([pairs[number] for number in accepted], seconds)
            with again() as flow:
                for number, one in zip(accepted, flow):
                    units[number] = Unit(quantize_flow(one, self._bound), warped=True)
        return units

    def _steady(self, first: Frame, last: Frame, flow: np.ndarray) -> np.ndarray | None:
        """Return the last frame as the first one's camera sees it, where that is to be found."""
        if not self._warps:
            return None
        colours = (first.rgb, last.rgb) if self._service.in_colour else None
        return stabilised(first.gray, last.gray, flow, colours)
