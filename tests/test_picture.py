"""What a person sees of stored units: the colours of flow, and everything else as it is."""

import colorsys
from dataclasses import replace

import numpy as np
import pytest
from conftest import stored

from tsn_core import modality_registry
from tsn_core.flow_color import color_wheel, flow_colors
from tsn_core.picture import full_color_px, unit_picture
from tsn_core.quantization import flow_scale_zero, quantize_flow


def flow_of(*vectors):
    return np.array([vectors], np.float64)


def test_the_named_colours_of_the_wheel():
    """Directions at which the paper's wheel has a corner of the colour cube: 55 hues, by count."""
    corners = {
        0: (255, 0, 0), 15: (255, 255, 0), 21: (0, 255, 0),
        25: (0, 255, 255), 36: (0, 0, 255), 49: (255, 0, 255),
    }  # fmt: skip
    for hue, color in corners.items():
        angle = 2 * np.pi * hue / 54
        found = flow_colors(flow_of((3 * np.cos(angle), 3 * np.sin(angle))), 3.0)[0, 0]
        assert np.abs(found.astype(int) - color).max() <= 2, hue


def test_stillness_is_white_and_speed_deepens_the_colour():
    speeds = (0.0, 1.0, 2.0, 4.0, 4.5, 100.0)
    colors = flow_colors(flow_of(*((speed, 0.0) for speed in speeds)), 4.0)[0].tolist()
    assert colors[:4] == [[255, 255, 255], [255, 191, 191], [255, 127, 127], [255, 0, 0]]
    assert colors[4] == colors[5] == [191, 0, 0]


def test_hues_go_once_around_with_the_seam_of_the_original():
    """From the last of 55 hues back to red is one step of a sixth of magenta to red: 42."""
    angles = np.linspace(0, 2 * np.pi, 721)
    flow = np.stack([np.cos(angles), np.sin(angles)], axis=-1)[None] * 0.999
    colors = flow_colors(flow, 1.0)[0].astype(int)
    assert np.abs(np.diff(colors, axis=0)).max() <= 10
    assert np.abs(colors[0] - colors[-1]).tolist() == [0, 0, 42]
    hues = [colorsys.rgb_to_hsv(*(color / 255))[0] for color in colors]
    assert max(hues) > 0.95 and min(hues) < 0.05


def test_the_legend_shows_the_colours_of_its_directions():
    wheel = color_wheel(101)
    assert wheel.shape == (101, 101, 3) and wheel.dtype == np.uint8
    assert wheel[0, 0].tolist() == wheel[50, 50].tolist() == [255, 255, 255]
    assert wheel[50, 100].tolist() == flow_colors(flow_of((1.0, 0.0)), 1.0)[0, 0].tolist()
    assert wheel[100, 50].tolist() == flow_colors(flow_of((0.0, 1.0)), 1.0)[0, 0].tolist()


@pytest.mark.parametrize("name", ["flow", "warpedflow"])
def test_flow_has_its_colours(name):
    scale, zero = flow_scale_zero(8.0)
    modality = stored(name, scale=scale, zero=zero, algorithm="farneback", parameters={})
    assert full_color_px(modality) == 4.0
    flow = np.float32([[[0, 0], [4, 0], [0, -2], [8, 8]]])
    unit = modality.kind.unstack(quantize_flow(flow, 8.0))
    picture = unit_picture(unit, modality)
    expected = flow_colors(flow, 4.0)
    assert picture.shape == (1, 4, 3)
    assert np.abs(picture.astype(int) - expected).max() <= 6, "a step of the code is 0.06 px"
    assert picture[0, 0].tolist() == [255, 255, 255], "what stands still is quite white"
    wider = unit_picture(unit, modality, max_magnitude=8.0)
    assert np.abs(wider.astype(int) - flow_colors(flow, 8.0)).max() <= 6


@pytest.mark.parametrize("name", ["rgb", "rgbdiff"])
def test_photographs_and_differences_are_as_they_are(name):
    unit = np.random.default_rng(0).integers(0, 256, (4, 5, 3), dtype=np.uint8)
    assert np.array_equal(unit_picture(unit, stored(name)), unit)
    assert full_color_px(stored(name)) is None


@pytest.mark.parametrize(("channels", "stacked"), [(1, True), (3, False), (2, True)])
def test_registered_modalities(monkeypatch, channels, stacked):
    kind = replace(
        modality_registry.get_modality("rgb"),
        name="other",
        unit_channels=channels,
        stacked=stacked,
        mean=(0.0,) * channels,
        std=(1.0,) * channels,
    )
    monkeypatch.setitem(modality_registry._TABLE, "other", kind)
    unit = np.random.default_rng(0).integers(0, 256, (4, 5, channels), dtype=np.uint8)
    picture = unit_picture(unit, stored("other"))
    if channels == 3:
        assert np.array_equal(picture, unit)
    else:
        assert picture.shape == (4, 5 * channels, 3)
        for channel in range(channels):
            plane = picture[:, 5 * channel : 5 * channel + 5]
            assert np.array_equal(plane, np.repeat(unit[..., channel : channel + 1], 3, axis=2))
    own = replace(kind, picture=lambda unit, modality: np.full((2, 2, 3), 9, np.uint8))
    monkeypatch.setitem(modality_registry._TABLE, "other", own)
    assert unit_picture(unit, stored("other")).tolist() == np.full((2, 2, 3), 9).tolist()
