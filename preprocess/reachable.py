"""Whether anybody listens at an address; clusters' own clients may take minutes to tell."""

from __future__ import annotations

import socket

from tsn_core.errors import ClusterError

CONNECT_SECONDS = 10.0


def check_reachable(name: str, host: str, port: int, remedy: str, *, greets: bool) -> None:
    """Connect once to a port, and wait for a first word.

    Args:
        name: What is to be found there, for the message.
        host: Name or address.
        port: Of TCP.
        remedy: What to do if nobody listens.
        greets: Whether it is the one that listens who speaks first, unasked.

    Raises:
        ClusterError: Nobody listens, or nothing is said.
    """
    try:
        with socket.create_connection((host, port), timeout=CONNECT_SECONDS) as connection:
            if greets and not connection.recv(1):
                raise ConnectionError("it hangs up")
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise ClusterError(
            f"{host}:{port}: no {name} can be reached there: {reason}; {remedy}"
        ) from error
