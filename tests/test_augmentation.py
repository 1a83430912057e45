"""Crops and flips against naive copies, pixel by pixel."""

from collections import Counter
from dataclasses import replace

import cv2
import numpy as np
import pytest

from train.augmentation import (
    CentreCrop,
    TrainingAugmentation,
    corners_and_centre,
    crop_places,
    mirror,
    random_box,
    resize_stack,
    test_views,
)
from tsn_core.errors import InputError
from tsn_core.modality import get_modality

RGB, FLOW = get_modality("rgb"), get_modality("flow")


def noise(shape, seed=0):
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def boxes(height, width, count=3000):
    generator = np.random.default_rng(0)
    return [random_box(height, width, generator) for _ in range(count)]


# --- boxes ---


@pytest.mark.parametrize(("height", "width"), [(256, 340), (340, 256)])
def test_boxes_have_sizes_at_most_one_step_apart(height, width):
    sizes = [256, 224, 192, 168]
    allowed = {(a, b) for i, a in enumerate(sizes) for j, b in enumerate(sizes) if abs(i - j) <= 1}
    seen = Counter((box[2], box[3]) for box in boxes(height, width))
    assert set(seen) == allowed
    assert len(allowed) == 10
    assert min(seen.values()) > 3000 / 10 / 2  # none is rare


def test_boxes_lie_in_four_corners_and_the_centre():
    places = Counter()
    for top, left, height, width in boxes(256, 340):
        down, right = 256 - height, 340 - width
        named = {
            (0, 0): "top left",
            (0, right): "top right",
            (down, 0): "bottom left",
            (down, right): "bottom right",
            (down // 2, right // 2): "centre",
        }
        if down:  # else some places are the same
            places[named[top, left]] += 1
    assert len(places) == 5
    assert min(places.values()) > sum(places.values()) / 5 / 2


@pytest.mark.parametrize(("height", "width"), [(1, 1), (2, 3), (24, 32), (37, 23)])
def test_boxes_of_tiny_frames_are_inside(height, width):
    for top, left, box_height, box_width in boxes(height, width, 200):
        assert top >= 0 and left >= 0 and box_height > 0 and box_width > 0
        assert top + box_height <= height and left + box_width <= width


def test_boxes_of_other_scales():
    generator = np.random.default_rng(0)
    sizes = {random_box(100, 200, generator, (1.0, 0.5, 0.25))[2:] for _ in range(300)}
    assert sizes == {(100, 100), (100, 50), (50, 100), (50, 50), (50, 25), (25, 50), (25, 25)}
    assert {random_box(9, 12, generator, (1.0,))[2:] for _ in range(20)} == {(9, 9)}


def test_corners_and_centre_by_hand():
    assert corners_and_centre(10, 20, 4, 6) == [(0, 0), (0, 14), (6, 0), (6, 14), (3, 7)]


def tsn_places(height, width, crop_height, crop_width, positions):
    """What the TSN authors' code draws from: multiples of a quarter of the free space."""
    down, right = (height - crop_height) // 4, (width - crop_width) // 4
    steps = {(0, 0), (0, 4), (4, 0), (4, 4), (2, 2)}
    if positions == 13:
        steps |= {(y, x) for y in (0, 2, 4) for x in (0, 2, 4)} | {(1, 1), (1, 3), (3, 1), (3, 3)}
    assert len(steps) == positions
    return {(y * down, x * right) for y, x in steps}


@pytest.mark.parametrize("positions", [5, 13])
@pytest.mark.parametrize(("height", "width"), [(256, 340), (340, 256)])
def test_places_are_those_of_tsn(positions, height, width):
    for crop in [(a, b) for a in (256, 224, 192, 168) for b in (256, 224, 192, 168)]:
        places = crop_places(height, width, *crop, positions)
        assert len(places) == positions
        assert set(places) == tsn_places(height, width, *crop, positions)


@pytest.mark.parametrize("positions", [5, 13])
def test_places_reach_the_far_border_where_tsn_stops_short(positions):
    for height, width in [(43, 55), (44, 57), (45, 58), (46, 60)]:
        ours = sorted(set(crop_places(height, width, 30, 31, positions)))
        theirs = sorted(tsn_places(height, width, 30, 31, positions))
        assert (height - 30, width - 31) in ours
        assert len(ours) == len(theirs) == positions
        assert all(0 <= a - c <= 3 and 0 <= b - d <= 3 for (a, b), (c, d) in zip(ours, theirs))


def test_thirteen_places_by_hand():
    assert set(crop_places(14, 28, 10, 20, 13)) == {
        *((0, 0), (0, 8), (4, 0), (4, 8), (2, 4)),
        *((0, 4), (2, 0), (2, 8), (4, 4)),
        *((1, 2), (1, 6), (3, 2), (3, 6)),
    }


def test_boxes_lie_in_thirteen_places_if_asked_to():
    generator = np.random.default_rng(0)
    seen = Counter(random_box(256, 340, generator, (0.75,), 13)[:2] for _ in range(2600))
    assert set(seen) == set(crop_places(256, 340, 192, 192, 13))
    assert min(seen.values()) > 100


def test_other_numbers_of_positions_are_refused():
    with pytest.raises(InputError) as caught:
        TrainingAugmentation(16, True, RGB, positions=9)
    assert str(caught.value) == "crop_positions must be 5 or 13, got 9"


# --- resizing and mirroring ---


@pytest.mark.parametrize("channels", [2, 3])
def test_resizing_is_opencvs_image_by_image(channels):
    stack = noise((2, 3, 24, 32, channels))
    box = (3, 5, 18, 21)
    resized = resize_stack(stack, box, 16)
    assert resized.shape == (2, 3, 16, 16, channels)
    for k in range(2):
        for unit in range(3):
            cut = np.ascontiguousarray(stack[k, unit, 3:21, 5:26])
            assert np.array_equal(resized[k, unit], cv2.resize(cut, (16, 16)))


def test_a_box_of_the_right_size_is_only_cut():
    stack = noise((1, 1, 24, 32, 3))
    assert np.array_equal(resize_stack(stack, (2, 4, 16, 16), 16), stack[:, :, 2:18, 4:20])


@pytest.mark.parametrize("modality", ["rgb", "flow", "rgbdiff"])
def test_mirroring_negates_the_x_displacement_only(modality):
    kind = get_modality(modality)
    stack = noise((2, 2, 3, 5, kind.unit_channels))
    mirrored = mirror(stack, kind)
    for index in np.ndindex(stack.shape):
        k, unit, row, column, channel = index
        code = int(stack[k, unit, row, 4 - column, channel])
        negated = modality == "flow" and channel == 0
        assert mirrored[index] == (255 - code if negated else code)
    assert np.array_equal(mirror(mirrored, kind), stack)


@pytest.mark.parametrize("channels", [2, 3])
def test_mirroring_a_cut_is_mirroring_its_copy(channels):
    cut = noise((2, 3, 9, 11, channels))[:, :, 2:7, 3:10]
    assert not cut.flags.c_contiguous
    for mirrored in ((), (0,), (0, 1)):
        expected = cut[..., ::-1, :].copy()
        for channel in mirrored:
            expected[..., channel] = 255 - expected[..., channel]
        kind = replace(get_modality("flow"), mirrored_channels=mirrored)
        assert np.array_equal(mirror(cut, kind), expected)


def test_mirroring_leaves_the_stack_alone():
    stack = noise((1, 1, 3, 4, 2))
    before = stack.copy()
    mirror(stack, FLOW)
    assert np.array_equal(stack, before)


# --- training ---


def naive_views(stack, size, kind):
    """Every result that a training crop of a 24x32 stack can have."""
    sides = [24, 21, 18, 15]
    found = []
    for height, width in ((a, b) for a in sides for b in sides):
        for place in corners_and_centre(24, 32, height, width):
            view = resize_stack(stack, (*place, height, width), size)
            found += [view.tobytes(), mirror(view, kind).tobytes()]
    return set(found)


def test_training_takes_one_box_and_one_flip_for_all_snippets():
    image = noise((24, 32, 2))
    stack = np.broadcast_to(image, (3, 5, 24, 32, 2))
    augment = TrainingAugmentation(16, True, FLOW)
    possible = naive_views(stack, 16, FLOW)
    seen = set()
    for seed in range(300):
        out = augment(stack, np.random.default_rng(seed), 0)
        assert out.shape == (3, 5, 16, 16, 2)
        assert (out == out[0, 0]).all()
        assert out.tobytes() in possible
        seen.add(out.tobytes())
    assert len(seen) > 60


def test_half_of_the_training_videos_are_mirrored_unless_told_not_to():
    ramp = np.broadcast_to(np.arange(32, dtype=np.uint8)[:, None], (1, 1, 24, 32, 3))
    flipping, plain = TrainingAugmentation(16, True, RGB), TrainingAugmentation(16, False, RGB)
    count = 0
    for seed in range(400):
        first = flipping(ramp, np.random.default_rng(seed), 0)
        second = plain(ramp, np.random.default_rng(seed), 0)
        assert second[0, 0, 0, 0, 0] < second[0, 0, 0, -1, 0]
        mirrored = first[0, 0, 0, 0, 0] > first[0, 0, 0, -1, 0]
        assert np.array_equal(first, second[..., ::-1, :] if mirrored else second)
        count += mirrored
    assert 160 < count < 240


def test_classes_that_tell_left_from_right_are_not_mirrored():
    stack = noise((2, 5, 24, 32, 2))
    usual = TrainingAugmentation(16, True, FLOW)
    careful = TrainingAugmentation(16, True, FLOW, unflipped_labels={1, 3})
    never = TrainingAugmentation(16, False, FLOW)
    mirrored = 0
    for seed in range(40):
        for label in range(5):
            expected = (never if label in (1, 3) else usual)(
                stack, np.random.default_rng(seed), label
            )
            out = careful(stack, np.random.default_rng(seed), label)
            assert np.array_equal(out, expected)
        mirrored += not np.array_equal(out, never(stack, np.random.default_rng(seed), 4))
    assert 10 < mirrored < 30  # of those that may be


# --- testing ---


def naive_crops(stack, num_crops, size, mirrored_channels):
    height, width = stack.shape[2:4]
    short = min(height, width)
    if num_crops == 3:
        side = short
        places = [(0, 0), ((height - side) // 2, (width - side) // 2)]
        places.append((height - side, width - side))
    else:
        side = round(0.875 * short)
        places = [
            (0, 0),
            (0, width - side),
            (height - side, 0),
            (height - side, width - side),
            ((height - side) // 2, (width - side) // 2),
        ]
    if num_crops == 1:
        places = places[4:]
    views = []
    for top, left in places:
        view = np.zeros((*stack.shape[:2], size, size, stack.shape[-1]), np.uint8)
        for k, unit in np.ndindex(stack.shape[:2]):
            cut = stack[k, unit, top : top + side, left : left + side].copy()
            view[k, unit] = cv2.resize(cut, (size, size))
        views.append(view)
    if num_crops == 10:
        for view in views[:5]:
            other = np.flip(view, axis=3).copy()
            for channel in mirrored_channels:
                other[..., channel] = 255 - other[..., channel]
            views.append(other)
    return views


@pytest.mark.parametrize("num_crops", [1, 3, 10])
@pytest.mark.parametrize(("height", "width"), [(24, 32), (33, 24), (16, 16)])
@pytest.mark.parametrize("channels", [2, 3])
def test_views_for_testing(num_crops, height, width, channels):
    stack = noise((2, 2, height, width, channels))
    kind = FLOW if channels == 2 else RGB
    views = test_views(stack, num_crops, 14, kind)
    expected = naive_crops(stack, num_crops, 14, kind.mirrored_channels)
    assert len(views) == num_crops
    for view, other in zip(views, expected, strict=True):
        assert np.array_equal(view, other)


def test_the_tsn_sizes_need_no_resizing():
    stack = noise((1, 1, 256, 340, 3))
    centre = test_views(stack, 1, 224, RGB)[0]
    assert np.array_equal(centre, stack[:, :, 16:240, 58:282])


def test_validation_looks_at_the_centre():
    stack = noise((2, 1, 24, 32, 3))
    crop = CentreCrop(14)(stack, np.random.default_rng(0), 0)
    assert np.array_equal(crop, naive_crops(stack, 1, 14, ())[0])


@pytest.mark.parametrize("num_crops", [0, 2, 5])
def test_other_numbers_of_crops_are_refused(num_crops):
    with pytest.raises(InputError) as caught:
        test_views(noise((1, 1, 4, 4, 3)), num_crops, 2, RGB)
    assert str(caught.value) == f"crops must be 1, 3 or 10, got {num_crops}"
