"""What is measured of a video's units: all of them counted, only some of them made."""

import pytest
from conftest import moving_frames, stored, write_clip

from preprocess.isolation import VideoProcess
from preprocess.task import InProcess, Task
from tsn_core.sampling import SnippetPlan

MODALITIES = (stored("rgb"), stored("rgbdiff"))
PLAN = SnippetPlan(dense=True)


@pytest.fixture(params=[InProcess, VideoProcess])
def extractor(request):
    extractor = request.param()
    yield extractor
    if request.param is VideoProcess:
        extractor.dispose()


def extract(extractor, path, every=None):
    images = []

    def keep(*image):
        images.append(image)

    return extractor.extract(Task(path, PLAN, MODALITIES, every=every), keep), images


def test_every_third_and_every_fourth_unit_is_made(extractor, tmp_path):
    path = write_clip(tmp_path / "a.avi", moving_frames(10))
    plain, everything = extract(extractor, path)
    assert plain.costs is None
    metered, images = extract(extractor, path, every=(3, 4))
    kept = [(0, n) for n in (0, 3, 6, 9)] + [(1, n) for n in (0, 4, 8)]
    assert sorted(images) == sorted(image for image in everything if image[:2] in kept)
    assert metered.rows == plain.rows
    rgb, rgbdiff = metered.costs.units
    assert (rgb.num_units, rgb.num_made, rgb.num_bytes) == (10, 4, 4 * 24 * 32 * 3)
    assert (rgbdiff.num_units, rgbdiff.num_made, rgbdiff.num_bytes) == (9, 3, 3 * 24 * 32 * 3)
    assert rgb.all_bytes == 10 * 24 * 32 * 3
    assert rgbdiff.all_seconds == pytest.approx(3 * rgbdiff.seconds)
    assert min(rgb.seconds, rgbdiff.seconds, metered.costs.decode_seconds) > 0
    assert metered.costs.spent_seconds == pytest.approx(
        metered.costs.decode_seconds + rgb.seconds + rgbdiff.seconds
    )
    assert metered.costs.queue_seconds >= 0


def test_all_units_made_are_those_of_a_plain_extraction(extractor, tmp_path):
    path = write_clip(tmp_path / "a.avi", moving_frames(7))
    assert extract(extractor, path, every=(1, 1))[1] == extract(extractor, path)[1]
