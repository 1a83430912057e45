"""The curves of a run for TensorBoard, which is an extra."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tsn_core.errors import MissingDependencyError


class TensorBoard:
    """Writes the row of every epoch as scalars into ``tensorboard/`` of a run's folder."""

    def __init__(self, out: Path) -> None:
        """Begin to write.

        Raises:
            MissingDependencyError: TensorBoard is not installed.
        """
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            raise MissingDependencyError(
                "TensorBoard is not installed; run: pip install 'tsn-shards[tensorboard]', "
                "or leave --tensorboard out"
            ) from None
        self._writer = SummaryWriter(str(out / "tensorboard"))

    def __call__(self, row: dict[str, Any]) -> None:
        """Write the row of an epoch."""
        for name, value in row.items():
            if name != "epoch":
                subset, _, what = name.partition("_")
                known = subset in ("train", "val")
                tag = f"{what}/{subset}" if known else name
                self._writer.add_scalar(tag, value, row["epoch"])
        self._writer.flush()
