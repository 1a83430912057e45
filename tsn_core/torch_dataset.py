"""Videos of shards as torch datasets, to be picked by number or streamed.

| asked for | item without ``transform`` |
|---|---|
| ``num_snippets=K`` | (K, L * C, H, W) uint8: K snippets of L units, as segment networks take |
| ``clip_length=T`` | (C, T, H, W) uint8: T consecutive units, as torchvision's networks take |

Items are (tensor, label). Everything random in them follows from seed, epoch and the video's place
alone: it is the same in any worker, and for any number of workers or ranks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch.utils.data import Dataset, IterableDataset, get_worker_info

from tsn_core.clips import ClipShape, check_clips, clip_units
from tsn_core.errors import InputError
from tsn_core.planes import by_snippet, to_planes
from tsn_core.sampling import segment_snippets
from tsn_core.seed import check_seed
from tsn_core.shards import Shards
from tsn_core.video_order import VideoOrder

Transform = Callable[[torch.Tensor], torch.Tensor]


class VideoDataset(Dataset):
    """Snippets or a clip of each video, by its place: a map-style dataset.

    ``DataLoader(dataset, batch_size=8, shuffle=True, num_workers=2)`` works as it is, with the
    default collate wherever all frames have one size, and with ``DistributedSampler``.

    Examples:
        >>> from tsn_core import open_shards
        >>> shards = open_shards("shards/gestures")  # flow of 24 x 32 pixels, 5 units a snippet
        >>> dataset = VideoDataset(shards, num_snippets=3)
        >>> snippets, label = dataset[1]
        >>> len(dataset), snippets.shape, snippets.dtype, label
        (4, torch.Size([3, 10, 24, 32]), torch.uint8, 1)
        >>> VideoDataset(shards, clip_length=8)[1][0].shape
        torch.Size([2, 8, 24, 32])
        >>> from torch.utils.data import DataLoader
        >>> [labels.tolist() for _, labels in DataLoader(dataset, batch_size=3)]
        [[0, 1, 0], [1]]
    """

    def __init__(
        self,
        shards: Shards,
        *,
        num_snippets: int | None = None,
        clip_length: int | None = None,
        stride: int = 1,
        training: bool = False,
        transform: Transform | None = None,
        seed: int = 0,
    ) -> None:
        """Say what of each video is shown; exactly one of the first two numbers must be given.

        Args:
            shards: The videos.
            num_snippets: Snippets of every video, K, one in each of K equal parts of it.
            clip_length: Consecutive units of every video, T. A video that is shorter repeats its
                last unit.
            stride: From one unit of a clip to the next, in frames.
            training: Whether snippets and clips are chosen at random, else from the middle.
            transform: From uint8 (K, L * C, H, W), or (T, C, H, W) of a clip, which torchvision's
                transforms take, to a tensor of as many dimensions. Random numbers of torch that it
                draws follow from seed, epoch and place, too. To mirror flow, codes of x
                displacements have to become ``255 - code`` as well.
            seed: Of everything random.

        Raises:
            InputError: A number is out of range, or the shards do not hold such clips.
        """
        if (num_snippets is None) == (clip_length is None):
            raise InputError("choose exactly one of num_snippets and clip_length")
        if num_snippets is not None and num_snippets < 1:
            raise InputError(f"num_snippets must be > 0, got {num_snippets}")
        self.shards = shards
        self._num_snippets = num_snippets
        self._clip = None if clip_length is None else ClipShape(clip_length, stride)
        if self._clip is not None:
            check_clips(shards.shard_set, self._clip)
        check_seed(seed=seed)
        self._training = training
        self._transform = transform
        self._seed = seed
        # Seen by workers that live on from one epoch to the next, too.
        self._epoch = torch.zeros((), dtype=torch.int64).share_memory_()

    @property
    def epoch(self) -> int:
        """Which epoch is shown; ``set_epoch`` says so."""
        return int(self._epoch)

    def set_epoch(self, epoch: int) -> None:
        """Show other random snippets, clips and transforms: call it before every epoch.

        Without it every epoch shows the same. Workers need not be started anew.

        Raises:
            InputError: It is negative.
        """
        check_seed(epoch=epoch)
        self._epoch.fill_(epoch)

    def __len__(self) -> int:
        return len(self.shards)

    def __getitem__(self, place: int) -> tuple[torch.Tensor, int]:
        """Return (tensor, label) of the video at a place; its shape stands above.

        Raises:
            IndexError: There is no such place.
            ShardError: An image is damaged.
        """
        if not -len(self) <= place < len(self):
            raise IndexError(f"{len(self)} videos, asked for number {place}")
        place %= len(self)
        shards, video = self.shards.shard_set, int(self.shards.numbers[place])
        generator = np.random.default_rng((self._seed, self.epoch, place))
        tensor = self._read(video, generator if self._training else None)
        if self._transform is not None:
            with torch.random.fork_rng(devices=[]):
                torch.default_generator.manual_seed(int(generator.integers(1 << 62)))
                tensor = self._transform(tensor)
        if self._clip is not None:
            tensor = tensor.transpose(0, 1).contiguous()  # (C, T, H, W)
        return tensor, int(shards.labels[video])

    def _read(self, video: int, generator: np.random.Generator | None) -> torch.Tensor:
        shards = self.shards.shard_set
        if self._clip is not None:
            units = shards.read_units(video, clip_units(shards, video, self._clip, generator))
            return torch.from_numpy(np.ascontiguousarray(units.transpose(0, 3, 1, 2)))
        assert self._num_snippets is not None
        chosen = segment_snippets(
            int(shards.num_snippets[video]),
            self._num_snippets,
            shards.modality.snippet_length,
            dense=self.shards.dense,
            generator=generator,
        )
        planes = to_planes(shards.unit_views(video, chosen))
        return torch.from_numpy(by_snippet(planes, len(chosen)))


class IterableVideoDataset(IterableDataset):
    """The items of a ``VideoDataset`` as a stream, shard after shard through a shuffling buffer.

    Neighbours in the stream mostly lie in one shard, which reads ahead well from slow disks and
    object stores. Videos are shared out among ranks and among workers, none lost; every rank gets
    equally many (``len``), for which the first ones of the epoch's order come twice if need be, or
    the last ones are left out with ``drop_uneven``.

    For a given seed, what a rank gets in an epoch is the same for any number of workers, and all
    ranks together get the same for any number of ranks, but for those repeated or left out. Order
    and batches, too, are the same for any number of workers if ``batch_size`` is the loader's.

    Examples:
        >>> from torch.utils.data import DataLoader
        >>> from tsn_core import open_shards
        >>> dataset = VideoDataset(open_shards("shards/gestures"), num_snippets=3)
        >>> stream = IterableVideoDataset(dataset, buffer_size=2, batch_size=2)
        >>> loader = DataLoader(stream, batch_size=2)
        >>> for epoch in range(2):
        ...     stream.set_epoch(epoch)
        ...     print([snippets.shape[0] for snippets, labels in loader])
        [2, 2]
        [2, 2]
    """

    def __init__(
        self,
        dataset: VideoDataset,
        *,
        shuffle: bool = True,
        buffer_size: int = 256,
        batch_size: int = 1,
        seed: int = 0,
        drop_uneven: bool = False,
        rank: int | None = None,
        num_ranks: int | None = None,
    ) -> None:
        """Say in which order.

        Args:
            dataset: Gives the items.
            shuffle: Whether the order is random, another one in every epoch.
            buffer_size: Videos to choose the next one from; 1 keeps the order within a shard. Only
                numbers wait in the buffer: it takes no memory to speak of.
            batch_size: The loader's.
            seed: Of the order.
            drop_uneven: See above.
            rank: Of this process; None asks ``torch.distributed``, where it runs.
            num_ranks: How many processes share the videos; None asks as well.

        Raises:
            InputError: A number is out of range.
        """
        self.dataset = dataset
        numbers = dataset.shards.shard_set.shard_numbers()[dataset.shards.numbers]
        self._order = VideoOrder(numbers, shuffle, buffer_size, seed, batch_size, drop_uneven)
        self._rank, self._num_ranks = _ranks(rank, num_ranks)

    def set_epoch(self, epoch: int) -> None:
        """Show the videos in another order, and other snippets: call it before every epoch."""
        self.dataset.set_epoch(epoch)

    def __len__(self) -> int:
        """Return how many items this rank shows in an epoch, over all of its workers."""
        return self._order.per_rank(self._num_ranks)

    def __iter__(self) -> Iterator[tuple[torch.Tensor, int]]:
        worker = get_worker_info()
        mine = (0, 1) if worker is None else (worker.id, worker.num_workers)
        epoch = self.dataset.epoch
        for place in self._order.of_worker(epoch, self._rank, self._num_ranks, *mine):
            yield self.dataset[place]


def _ranks(rank: int | None, num_ranks: int | None) -> tuple[int, int]:
    if (rank is None) != (num_ranks is None):
        raise InputError("give both rank and num_ranks, or neither")
    if rank is None or num_ranks is None:
        distributed = torch.distributed
        if not (distributed.is_available() and distributed.is_initialized()):
            return 0, 1
        return distributed.get_rank(), distributed.get_world_size()
    if not 0 <= rank < num_ranks:
        raise InputError(f"rank must be 0 to {num_ranks - 1}, got {rank}")
    return rank, num_ranks
