"""Whole numbers that random ones follow from, as a user may have typed them."""

from __future__ import annotations

from tsn_core.errors import InputError

_END = 1 << 63  # torch takes no larger epochs, nor much larger seeds


def check_seed(**values: int) -> None:
    """Check seeds and numbers of epochs, by name.

    Raises:
        InputError: One is negative, or has more than 63 bits.
    """
    for name, value in values.items():
        if not 0 <= value < _END:
            bound = "0 or more" if value < 0 else "below 2**63"
            raise InputError(f"{name} must be {bound}, got {value}")
