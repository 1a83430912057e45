"""Batches of NumPy arrays by number, for libraries that are not torch."""

from __future__ import annotations

import numpy as np

from tsn_core.errors import InputError
from tsn_core.sampling import segment_snippets
from tsn_core.seed import check_seed
from tsn_core.shards import Shards


class ArrayBatches:
    """An epoch's batches, as ``len()`` and ``[number]``: what Keras, JAX and plain loops take.

    A batch is (snippets, labels): (B, K, H, W, L * C) float32, channels last, and (B,) int64. The
    numbers are the values that codes stand for, divided by the largest one: 0 to 1 for rgb, -1 to 1
    for flow and differences.

    Examples:
        >>> from tsn_core import open_shards
        >>> batches = ArrayBatches(open_shards("shards/gestures"), batch_size=3, num_snippets=2)
        >>> [(x.shape, y.tolist()) for x, y in batches]
        [((3, 2, 24, 32, 10), [0, 1, 0]), ((1, 2, 24, 32, 10), [1])]
    """

    def __init__(
        self,
        shards: Shards,
        *,
        batch_size: int,
        num_snippets: int,
        training: bool = False,
        seed: int = 0,
    ) -> None:
        """Say what a batch holds.

        Args:
            shards: The videos; their frames must all have one size.
            batch_size: Videos of a batch, B; the last one may have fewer.
            num_snippets: Snippets of every video, K, one in each of K equal parts of it.
            training: Whether the order of the videos and their snippets are random.
            seed: Of everything random.

        Raises:
            InputError: A number is not positive, or sizes differ.
        """
        for name, value in (("batch_size", batch_size), ("num_snippets", num_snippets)):
            if value < 1:
                raise InputError(f"{name} must be > 0, got {value}")
        if shards.modality.height is None:
            raise InputError(
                f"{shards.folder}: frames of different sizes do not fit into one array; extract "
                "them with --size WIDTHxHEIGHT"
            )
        check_seed(seed=seed)
        self._shards = shards
        self._batch_size = batch_size
        self._num_snippets = num_snippets
        self._training = training
        self._seed = seed
        self._epoch = 0

    def __len__(self) -> int:
        return -(-len(self._shards) // self._batch_size)

    def on_epoch_end(self) -> None:
        """Go on to the next epoch: another order, other snippets. Keras calls it by itself."""
        self._epoch += 1

    def __getitem__(self, number: int) -> tuple[np.ndarray, np.ndarray]:
        """Return a batch of this epoch, the same however often and by which thread it is asked for.

        Raises:
            IndexError: There is no batch of that number.
            ShardError: An image is damaged.
        """
        if not 0 <= number < len(self):
            raise IndexError(f"{len(self)} batches, asked for number {number}")
        order = np.arange(len(self._shards))
        if self._training:
            np.random.default_rng((self._seed, self._epoch)).shuffle(order)
        places = order[number * self._batch_size :][: self._batch_size]
        return np.stack([self._item(int(place)) for place in places]), self._shards.labels[places]

    def _item(self, place: int) -> np.ndarray:
        modality, video = self._shards.modality, self._shards[place]
        chosen = segment_snippets(
            video.num_snippets,
            self._num_snippets,
            modality.snippet_length,
            dense=self._shards.dense,
            generator=np.random.default_rng((self._seed, self._epoch, place))
            if self._training
            else None,
        )
        values = video.values(chosen)  # (K, L, H, W, C)
        values /= max(255 - modality.zero, modality.zero) * modality.scale
        k, length, height, width, channels = values.shape
        return values.transpose(0, 2, 3, 1, 4).reshape(k, height, width, length * channels)
