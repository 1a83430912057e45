"""``download.json``: what was downloaded, from where, and the checksums it had the first time."""

from __future__ import annotations

import json
import re
from dataclasses import asdict, dataclass, field
from pathlib import Path

from tsn_core.atomic import write_text
from tsn_core.errors import DownloadError, InputError

RECEIPT_NAME = "download.json"
_SHA256 = re.compile(r"^[0-9a-f]{64}$")


@dataclass(frozen=True)
class Entry:
    """One archive.

    Attributes:
        name: Of the file.
        origin: Its URL, or its path on this machine.
        sha256: Of its bytes, hexadecimal.
        num_bytes: Its size.
        vouched_by: Who has published a checksum that it has; empty if nobody has.
    """

    name: str
    origin: str
    sha256: str
    num_bytes: int
    vouched_by: str


@dataclass
class Receipt:
    """All archives of a dataset.

    Attributes:
        dataset: Its name.
        entries: By name.
        num_videos: That were unpacked and counted; None before.
    """

    dataset: str
    entries: dict[str, Entry] = field(default_factory=dict)
    num_videos: int | None = None

    def note(self, entry: Entry, path: Path) -> bool:
        """Compare an archive with what it was the first time, or note it if this is the first.

        Args:
            entry: Of the archive now.
            path: Where this receipt lies.

        Returns:
            Whether it is the first time.

        Raises:
            DownloadError: It is another file.
        """
        known = self.entries.get(entry.name)
        if known is None:
            self.entries[entry.name] = entry
        elif known.sha256 != entry.sha256:
            raise DownloadError(
                f"{entry.name}: it had sha256 {known.sha256} when it was first downloaded, now "
                f"{entry.sha256}; if you know why it has changed, remove {path} and run again"
            )
        return known is None

    def write(self, path: Path, notice: dict[str, str]) -> None:
        """Write it, with what is to be known about the dataset."""
        content = {
            "dataset": self.dataset,
            **notice,
            "archives": [asdict(entry) for entry in self.entries.values()],
            "num_videos": self.num_videos,
        }
        write_text(path, json.dumps(content, indent=1) + "\n")


def read_receipt(path: Path, dataset: str) -> Receipt:
    """Return the receipt of an earlier run, or an empty one.

    Raises:
        InputError: It is there and cannot be understood.
    """
    receipt = Receipt(dataset)
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        for given in content["archives"]:
            entry = Entry(**given)
            if not _SHA256.match(entry.sha256):
                raise ValueError(f"no sha256: {entry.sha256!r}")
            receipt.entries[str(entry.name)] = entry
        number = content.get("num_videos")
        receipt.num_videos = number if isinstance(number, int) else None
    except FileNotFoundError:
        return receipt
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise InputError(f"{path}: cannot be understood: {error!r}; remove it") from None
    if content.get("dataset") != dataset:
        raise InputError(
            f"{path}: belongs to {content.get('dataset')!r}, not {dataset}; choose another --out"
        )
    return receipt
