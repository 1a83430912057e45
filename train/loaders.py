"""The loaders of one training run: augmented training videos, centre crops of the others."""

from __future__ import annotations

from torch.utils.data import DataLoader

from train.augmentation import Augmentation, TrainingAugmentation, centre_view
from train.batches import BatchPlan
from train.distributed import Ranks
from train.settings import RunSettings
from train.videos import SnippetDataset, make_loader
from tsn_core.errors import InputError
from tsn_core.listing import few
from tsn_core.shard_set import ShardSet


def make_loaders(
    settings: RunSettings,
    shards: ShardSet,
    training: list[int],
    validation: list[int],
    num_workers: int,
    worker_start: str | None,
    ranks: Ranks,
) -> tuple[DataLoader, DataLoader]:
    """Return the loaders of the training and the validation videos of this rank.

    Args:
        settings: Of the run.
        shards: Where the videos lie.
        training: Numbers of the training videos.
        validation: Numbers of the validation videos.
        num_workers: Loading processes for each; 0 loads in this one.
        worker_start: How they are started; see ``make_loader``.
        ranks: The processes that share every batch.

    Raises:
        InputError: A class that must not be mirrored does not exist, videos of the modality cannot
            be mirrored on a device, or there is nothing to decode there.
    """
    data, seed = settings.data, settings.loop.seed
    augmentation = TrainingAugmentation(
        data.flip,
        data.crop_scales,
        data.crop_positions,
        _labels_of(data.unflipped_classes, shards.class_names),
    )

    def loader(videos: list[int], crops: Augmentation, is_training: bool) -> DataLoader:
        dataset = SnippetDataset(
            shards,
            videos,
            num_segments=settings.network.num_segments,
            input_size=data.input_size,
            augmentation=crops,
            training=is_training,
            seed=seed,
            resize=data.resize_on == "workers",
            decode=data.decode_on == "workers",
        )
        plan = BatchPlan(
            num_videos=len(videos),
            batch_size=data.batch_size,
            shuffle=is_training,
            seed=seed,
            accumulate=data.accumulate,
            rank=ranks.rank,
            num_ranks=ranks.size,
            window=data.shuffle_window,
            shard_numbers=shards.shard_numbers()[videos],
        )
        return make_loader(dataset, plan, num_workers=num_workers, worker_start=worker_start)[0]

    return loader(training, augmentation, True), loader(validation, centre_view, False)


def _labels_of(classes: tuple[str, ...], class_names: tuple[str, ...]) -> list[int]:
    """Return the ids of the classes of these names.

    Raises:
        InputError: There is none of some name.
    """
    for name in classes:
        if name not in class_names:
            raise InputError(
                f"--no-flip-class {name}: no such class; there are {few(class_names, 8)}"
            )
    return [class_names.index(name) for name in classes]
