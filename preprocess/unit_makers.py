"""What makes the units of every modality of a video, kept from one video to the next."""

from __future__ import annotations

from collections.abc import Callable

from preprocess.flow_method import method_of
from preprocess.flow_service import DirectFlow, FlowService
from preprocess.unit_batches import BatchMaker
from preprocess.units import UnitMaker, unit_maker
from tsn_core.modality import StoredModality

Maker = UnitMaker | BatchMaker


class UnitMakers:
    """Makes the maker of each modality once: some read a network, or compile."""

    def __init__(self, service: Callable[[str, str], FlowService] = DirectFlow) -> None:
        """Make nothing yet.

        Args:
            service: Takes a method and a device and returns what computes flow in batches.
        """
        self._service = service
        self._one_by_one: dict[str, UnitMaker] = {}
        self._batches: dict[tuple[str, str], BatchMaker] = {}
        self._services: list[FlowService] = []

    def __call__(self, modality: StoredModality, device: str | None = None) -> Maker:
        """Return the maker of a modality's units.

        Args:
            modality: What to make.
            device: Where flow that can be is computed in batches; None: one pair at a time, on the
                CPU.

        Raises:
            InputError: See ``unit_maker``.
        """
        method = None if device is None else method_of(modality)
        if method is None or device is None:
            return self.one_by_one(modality)
        key = (modality.to_json(), device)
        if key not in self._batches:
            service = self._service(method, device)
            self._services.append(service)
            bound, warps = modality.parameters["bound"], modality.name == "warpedflow"
            self._batches[key] = BatchMaker(service, bound, warps=warps)
        return self._batches[key]

    def one_by_one(self, modality: StoredModality) -> UnitMaker:
        """Return the maker of single units of a modality; see ``unit_maker``.

        Raises:
            InputError: See ``unit_maker``.
        """
        key = modality.to_json()
        if key not in self._one_by_one:
            self._one_by_one[key] = unit_maker(modality)
        return self._one_by_one[key]

    @property
    def waited_seconds(self) -> float:
        """How long videos have waited for flow that is computed in batches, in all."""
        return sum(service.waited_seconds for service in self._services)
