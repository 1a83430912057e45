"""Crops and flips against naive copies, pixel by pixel."""

from collections import Counter
from dataclasses import replace

import cv2
import numpy as np
import pytest

from train.augmentation import (
    TrainingAugmentation,
    View,
    centre_view,
    corners_and_centre,
    crop_places,
    random_box,
    test_views,
)
from tsn_core.errors import InputError
from tsn_core.modality import get_modality
from tsn_core.planes import by_snippet, mirror, to_planes

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
        TrainingAugmentation(True, positions=9)
    assert str(caught.value) == "crop_positions must be 5 or 13, got 9"


# --- resizing and mirroring ---


def stored_units(count, height, width, channels, layout):
    """Units as shards hand them out: interleaved, or channel below channel in one gray image."""
    units = noise((count, height, width, channels))
    if layout == "stacked":
        images = np.ascontiguousarray(units.transpose(0, 3, 1, 2)).reshape(count, -1, width)
        assert np.array_equal(FLOW.unstack(images[0]), units[0]) or channels != 2
        views = [image.reshape(channels, height, width).transpose(1, 2, 0) for image in images]
        assert np.array_equal(views, units)
        return views
    units.flags.writeable = False
    return list(units)


LAYOUTS = [(1, "stacked"), (2, "stacked"), (3, "interleaved"), (3, "stacked"), (4, "interleaved")]


@pytest.mark.parametrize(("channels", "layout"), LAYOUTS)
def test_resizing_is_opencvs_image_by_image(channels, layout):
    units = stored_units(6, 24, 32, channels, layout)
    planes = to_planes(units, (3, 5, 18, 21), 16)
    assert planes.shape == (6, channels, 16, 16) and planes.flags.c_contiguous
    for unit, found in zip(units, planes):
        cut = np.ascontiguousarray(unit[3:21, 5:26])
        expected = cv2.resize(cut, (16, 16)).reshape(16, 16, channels)
        assert np.array_equal(found.transpose(1, 2, 0), expected)


@pytest.mark.parametrize(("channels", "layout"), LAYOUTS)
def test_a_box_of_the_right_size_is_only_cut(channels, layout):
    units = stored_units(2, 24, 32, channels, layout)
    expected = np.stack(units).transpose(0, 3, 1, 2)
    assert np.array_equal(to_planes(units, (2, 4, 16, 16), 16), expected[:, :, 2:18, 4:20])
    assert np.array_equal(to_planes(units, (2, 4, 15, 16)), expected[:, :, 2:17, 4:20])
    assert np.array_equal(to_planes(units), expected)


def test_planes_of_snippets_are_unit_after_unit():
    stack = noise((2, 3, 4, 5, 2))
    planes = by_snippet(to_planes(list(stack.reshape(6, 4, 5, 2))), 2)
    assert planes.shape == (2, 6, 4, 5) and planes.flags.c_contiguous
    for k, unit, channel in np.ndindex(2, 3, 2):
        assert np.array_equal(planes[k, 2 * unit + channel], stack[k, unit, ..., channel])


@pytest.mark.parametrize("modality", ["rgb", "flow", "rgbdiff"])
def test_mirroring_negates_the_x_displacement_only(modality):
    kind = get_modality(modality)
    planes = noise((4, kind.unit_channels, 3, 5))
    before = planes.copy()
    mirrored = mirror(planes, kind)
    assert np.array_equal(planes, before)
    for index in np.ndindex(planes.shape):
        unit, channel, row, column = index
        code = int(planes[unit, channel, row, 4 - column])
        negated = modality == "flow" and channel == 0
        assert mirrored[index] == (255 - code if negated else code)
    assert np.array_equal(mirror(mirrored, kind), planes)
    mirror(planes, kind, out=planes)
    assert np.array_equal(planes, mirrored)


@pytest.mark.parametrize("mirrored", [(), (0,), (0, 1)])
def test_mirroring_turns_the_channels_that_the_modality_names(mirrored):
    planes = noise((3, 2, 7, 9))
    expected = planes[..., ::-1].copy()
    for channel in mirrored:
        expected[:, channel] = 255 - expected[:, channel]
    assert np.array_equal(mirror(planes, replace(FLOW, mirrored_channels=mirrored)), expected)


# --- training ---


def test_a_view_is_cut_resized_and_mirrored():
    units = stored_units(4, 24, 32, 2, "stacked")
    box = (3, 5, 18, 21)
    assert np.array_equal(View(box).of(units, 16, FLOW), to_planes(units, box, 16))
    mirrored = View(box, mirrored=True).of(units, 16, FLOW)
    assert np.array_equal(mirrored, mirror(to_planes(units, box, 16), FLOW))


def test_training_shows_every_box_mirrored_and_not():
    augment = TrainingAugmentation(True)
    sides = [24, 21, 18, 15]
    possible = {
        View((*place, height, width), mirrored)
        for i, height in enumerate(sides)
        for j, width in enumerate(sides)
        if abs(i - j) <= 1
        for place in corners_and_centre(24, 32, height, width)
        for mirrored in (False, True)
    }
    seen = {augment(24, 32, np.random.default_rng(seed), 0) for seed in range(3000)}
    assert seen == possible


def test_half_of_the_training_videos_are_mirrored_unless_told_not_to():
    flipping, plain = TrainingAugmentation(True), TrainingAugmentation(False)
    count = 0
    for seed in range(400):
        first = flipping(24, 32, np.random.default_rng(seed), 0)
        second = plain(24, 32, np.random.default_rng(seed), 0)
        assert first.box == second.box and not second.mirrored
        count += first.mirrored
    assert 160 < count < 240


def test_classes_that_tell_left_from_right_are_not_mirrored():
    usual = TrainingAugmentation(True)
    careful = TrainingAugmentation(True, unflipped_labels={1, 3})
    never = TrainingAugmentation(False)
    mirrored = 0
    for seed in range(40):
        for label in range(5):
            expected = (never if label in (1, 3) else usual)(
                24, 32, np.random.default_rng(seed), label
            )
            found = careful(24, 32, np.random.default_rng(seed), label)
            assert found == expected
        mirrored += found.mirrored
    assert 10 < mirrored < 30  # of those that may be


# --- testing ---


def units_of(stack):
    """(K, L, H, W, C) as single units."""
    return list(stack.reshape(-1, *stack.shape[2:]))


def planes_of(stack):
    """(K, L, H, W, C) as (K * L, C, H, W)."""
    return np.stack(units_of(stack)).transpose(0, 3, 1, 2)


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
    views = test_views(units_of(stack), num_crops, 14, kind)
    expected = naive_crops(stack, num_crops, 14, kind.mirrored_channels)
    assert len(views) == num_crops
    for view, other in zip(views, expected, strict=True):
        assert np.array_equal(view, planes_of(other))


def test_the_tsn_sizes_need_no_resizing():
    stack = noise((1, 1, 256, 340, 3))
    centre = test_views(units_of(stack), 1, 224, RGB)[0]
    assert np.array_equal(centre, planes_of(stack[:, :, 16:240, 58:282]))


def test_validation_looks_at_the_centre():
    stack = noise((2, 1, 24, 32, 3))
    view = centre_view(24, 32, np.random.default_rng(0), 0)
    crop = view.of(units_of(stack), 14, RGB)
    assert np.array_equal(crop, planes_of(naive_crops(stack, 1, 14, ())[0]))


@pytest.mark.parametrize("num_crops", [0, 2, 5])
def test_other_numbers_of_crops_are_refused(num_crops):
    with pytest.raises(InputError) as caught:
        test_views(units_of(noise((1, 1, 4, 4, 3))), num_crops, 2, RGB)
    assert str(caught.value) == f"crops must be 1, 3 or 10, got {num_crops}"
