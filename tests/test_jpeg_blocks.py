"""Flow JPEGs cut and joined without decoding: the encoder itself is the oracle."""

import cv2
import numpy as np
import pytest

from preprocess.exchange.jpeg_blocks import NotSplittableError, join_jpegs, split_jpeg


def encoded(image, quality=95, **flags):
    options = [cv2.IMWRITE_JPEG_QUALITY, quality]
    for name, value in flags.items():
        options += [getattr(cv2, f"IMWRITE_JPEG_{name.upper()}"), value]
    return cv2.imencode(".jpg", image, options)[1].tobytes()


def decoded(data):
    return cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)


def images(height, width, parts, kind):
    generator = np.random.default_rng(height * width + parts)
    shape = (parts, height, width)
    if kind == "noise":  # every coefficient, and many stuffed bytes
        return generator.integers(0, 256, shape, dtype=np.uint8)
    if kind == "extreme":  # the largest DC differences
        return (
            np.repeat(np.array([0, 255] * parts)[:parts], height * width)
            .reshape(shape)
            .astype(np.uint8)
        )
    coarse = generator.integers(100, 156, (parts, 4, 5)).astype(np.uint8)
    return np.stack([cv2.resize(one, (width, height)) for one in coarse])


@pytest.mark.parametrize("kind", ["noise", "extreme", "smooth"])
@pytest.mark.parametrize("quality", [1, 50, 95, 100])
@pytest.mark.parametrize(("height", "width", "parts"), [(8, 8, 2), (16, 20, 2), (24, 33, 3)])
def test_parts_are_what_the_encoder_makes_of_them_alone(kind, quality, height, width, parts):
    separate = images(height, width, parts, kind)
    whole = encoded(np.concatenate(separate), quality)
    alone = [encoded(one, quality) for one in separate]
    assert split_jpeg(whole, parts) == alone
    assert join_jpegs(alone) == whole


def test_pixels_survive_tables_of_their_own():
    separate = images(16, 24, 2, "smooth")
    whole = encoded(np.concatenate(separate), optimize=1)
    top, bottom = split_jpeg(whole, 2)
    assert (np.concatenate([decoded(top), decoded(bottom)]) == decoded(whole)).all()
    assert join_jpegs([top, bottom]) == whole


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"text", "no JPEG"),
        (encoded(np.zeros((16, 8, 3), np.uint8)), "no gray JPEG"),
        (encoded(np.zeros((16, 8), np.uint8), progressive=1), "no baseline JPEG"),
        (encoded(np.zeros((16, 8), np.uint8), rst_interval=1), "a JPEG with restart markers"),
        (
            encoded(np.zeros((24, 8), np.uint8)),
            "2 parts of a multiple of 8 rows expected, got 24 rows",
        ),
        (encoded(images(64, 64, 1, "noise")[0])[:900], "the JPEG is damaged or cut short"),
        (
            encoded(images(64, 64, 1, "noise")[0])[:900] + b"\xff\xd9",
            "the JPEG is damaged or cut short",
        ),
    ],
)
def test_what_cannot_be_cut_is_refused(data, message):
    with pytest.raises(NotSplittableError) as error:
        split_jpeg(data, 2)
    assert str(error.value) == message


@pytest.mark.parametrize(
    ("first", "second", "message"),
    [
        ((8, 8), (16, 8), "the JPEGs differ in size"),
        ((12, 8), (12, 8), "a multiple of 8 rows expected, got 12 rows"),
    ],
)
def test_what_cannot_be_joined_is_refused(first, second, message):
    with pytest.raises(NotSplittableError) as error:
        join_jpegs([encoded(np.zeros(size, np.uint8)) for size in (first, second)])
    assert str(error.value) == message


def test_other_qualities_are_not_joined():
    blank = np.zeros((8, 8), np.uint8)
    with pytest.raises(NotSplittableError) as error:
        join_jpegs([encoded(blank, 90), encoded(blank, 95)])
    assert str(error.value) == "the JPEGs differ in their tables"


def test_hostile_bytes_end_in_one_line():
    generator = np.random.default_rng(0)
    whole = bytearray(encoded(np.concatenate(images(16, 24, 2, "noise"))))
    for _ in range(300):
        data = bytearray(whole)
        for place in generator.integers(0, len(data), 3):
            data[place] = generator.integers(0, 256)
        try:
            parts = split_jpeg(bytes(data), 2)
        except NotSplittableError:
            continue
        assert len(parts) == 2
