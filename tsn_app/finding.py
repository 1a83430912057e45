"""What ``tsn-doctor`` has to say of one thing."""

from __future__ import annotations

from dataclasses import dataclass

OK, NOTE, PROBLEM = "ok", "note", "problem"


@dataclass(frozen=True)
class Finding:
    """A line of the page.

    Attributes:
        group: What it is about, such as ``OpenCV``.
        name: Of the thing.
        found: What is there.
        status: ``ok``; ``note``: worth knowing, or a part that is left out; ``problem``: something
            that the main job needs does not work.
        remedy: What to do, if anything.
    """

    group: str
    name: str
    found: str
    status: str = OK
    remedy: str = ""
