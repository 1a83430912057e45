"""Views of videos that loading processes hand over in slots."""

import io

import numpy as np
import pytest
import torch
from conftest import stored
from rich.console import Console
from train_helpers import make_tsn, message_of, random_videos, write_shards

import train.view_features
from train.augmentation import test_views as views_of
from train.feed import snippets_on_device
from train.slots import Filled
from train.view_features import view_features
from tsn_core.loading import stream
from tsn_core.planes import by_snippet

CPU = torch.device("cpu")


@pytest.fixture(scope="module", params=["rgb", "flow"])
def shards(request, tmp_path_factory):
    modality = stored(request.param, snippet_length=1 if request.param == "rgb" else 2)
    folder = tmp_path_factory.mktemp("shards") / modality.folder
    return write_shards(folder, modality, random_videos(modality, (4, 9, 5, 7, 6)), per_shard=2)


def items_of(shards):
    return [(video, [0, 2, 3][: 2 + video % 2]) for video in range(len(shards))]


@pytest.mark.parametrize("crops", [1, 3, 10])
@pytest.mark.parametrize("num_workers", [0, 1, 2])
@pytest.mark.parametrize("ahead", [False, True])
def test_views_are_those_that_are_cut_here(shards, crops, num_workers, ahead):
    """Items have two or three snippets: a slot holds the largest."""
    loader = train.view_features._make_loader(shards, items_of(shards), crops, 16, num_workers)
    brought = snippets_on_device(stream(loader), CPU, ahead=ahead)
    for (video, chosen), views in zip(items_of(shards), brought, strict=True):
        units = shards.unit_views(video, chosen)
        cut = views_of(units, crops, 16, shards.modality.kind)
        expected = np.stack([by_snippet(view, len(chosen)) for view in cut])
        assert np.array_equal(views.numpy(), expected)


def test_no_process_is_started_without_a_video_to_load(shards):
    for count, expected in ((1, 1), (0, 0)):
        items = items_of(shards)[:count]
        loader = train.view_features._make_loader(shards, items, 1, 16, 2)
        assert loader.num_workers == expected


def test_they_lie_in_slots(shards):
    loader = train.view_features._make_loader(shards, items_of(shards), 10, 16, 1)
    handed = list(stream(loader))
    assert all(isinstance(one.data, Filled) for one in handed)
    assert [one.data.row for one in handed] == [0, 1, 2, 0, 1]


def features_of(shards, **changes):
    fields = {
        "num_snippets": 3,
        "crops": 3,
        "input_size": 32,
        "num_workers": 0,
        "device": CPU,
        "label": "testing",
        "console": Console(file=io.StringIO(), quiet=True),
    }
    model = make_tsn(modality=shards.modality.name, snippet_length=shards.modality.snippet_length)
    return list(view_features(model, shards, [1, 0, 4], **{**fields, **changes}))


def test_features_are_the_same_from_any_process(shards):
    expected = features_of(shards)
    for one, other in zip(features_of(shards, num_workers=2), expected, strict=True):
        assert one.shape[:2] == (3, 3) and torch.equal(one, other)


def test_too_little_shared_memory_is_one_line(shards, monkeypatch):
    def full(self):
        raise RuntimeError("unable to allocate shared memory(shm) for file </torch_1>")

    monkeypatch.setattr(torch.Tensor, "share_memory_", full)
    text = message_of(features_of, shards, num_workers=2)
    assert text.startswith("2 loading processes need ")
    assert text.endswith(
        "choose fewer --workers, fewer --crops or --num-snippets, or allow more "
        "(docker run --shm-size)"
    )
