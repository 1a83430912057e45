"""Parameters by name, changed by what is typed on the command line."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tsn_core.errors import InputError

_WHAT = {int: "a whole number", float: "a number"}
_SWITCH = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}


def change_parameters(
    defaults: Mapping[str, Any], changes: Sequence[str], whose: str
) -> dict[str, Any]:
    """Return parameters, some of which were typed.

    Args:
        defaults: All of them; the type of each tells how a text is read.
        changes: ``NAME=VALUE``.
        whose: What has the parameters, for messages.

    Raises:
        InputError: There is no such parameter, or a value is of the wrong type.

    Examples:
        >>> change_parameters({"levels": 3, "sigma": 1.2}, ["levels=5"], "farneback")
        {'levels': 5, 'sigma': 1.2}
    """
    parameters = dict(defaults)
    for change in changes:
        name, _, text = change.partition("=")
        if name not in parameters:
            choices = ", ".join(parameters) or "none: it has no parameters"
            raise InputError(f"unknown parameter {name!r} of {whose}; choose from {choices}")
        kind = type(parameters[name])
        try:
            parameters[name] = _SWITCH[text.lower()] if kind is bool else kind(text)
        except KeyError:
            raise InputError(f"{whose} {name} must be true or false, got {text!r}") from None
        except ValueError:
            raise InputError(f"{whose} {name} must be {_WHAT[kind]}, got {text!r}") from None
    return parameters
