"""The fusion of modalities that were trained on the same splits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from train.crossval import CrossResult, cross_result, pooled_scores
from train.fuse import align, default_weight, fuse
from train.results import write_fusion
from train.scores import Scores


def fuse_splits(parts: Sequence[Mapping[int, Scores]], out: Path) -> CrossResult:
    """Fuse modalities split by split, with the usual weights, and write the files of it.

    Args:
        parts: Scores of the test videos by split, of each modality.
        out: The fusion of split n goes to ``split<n>`` in it, that of all videos into it, where no
            video is tested twice.

    Raises:
        InputError: The modalities have no test videos in common.
    """
    weights = [default_weight(next(iter(part.values())).name) for part in parts]
    fused, aligned = {}, {}
    for split in parts[0]:
        aligned[split] = align([part[split] for part in parts])
        fused[split] = fuse(aligned[split], weights)
        named = {part.name: part for part in aligned[split]}
        write_fusion(named, weights, out / f"split{split}", {"split": split})
    if len(fused) > 1 and pooled_scores(list(fused.values())) is not None:
        together = [pooled_scores(list(of_one)) for of_one in zip(*aligned.values())]
        named = {part.name: part for part in together if part is not None}
        write_fusion(named, weights, out, {"splits": list(fused)})
    return cross_result(fused, training_seconds=0.0)
