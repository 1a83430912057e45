"""Videos that were trained on are told apart from others, and refused in a test."""

import hashlib
import struct

import numpy as np
import pytest

from train.leakage import check_not_trained_on, hashes, name_hash
from tsn_core.errors import CheckpointError

NAMES = ("walk/a.avi", "walk/é.avi", "run/b (1)!.avi", "run/c.avi")


def test_numbers_are_the_first_bytes_of_sha256():
    for name in NAMES:
        digest = hashlib.sha256(b"tiny\0" + name.encode("utf-8")).digest()
        assert name_hash("tiny", name) == struct.unpack("<q", digest[:8])[0]
    assert hashes("tiny", NAMES).tolist() == [name_hash("tiny", name) for name in NAMES]
    assert hashes("tiny", NAMES).dtype == np.int64
    assert hashes("tiny", ()).shape == (0,)
    assert hashes("tiny", ()).dtype == np.int64


def test_numbers_of_many_videos_differ():
    names = [f"class{n % 100}/{n}.avi" for n in range(5000)]
    assert len(np.unique([hashes("a", names), hashes("b", names)])) == 10_000
    assert name_hash("ab", "c") != name_hash("a", "bc")
    assert min(hashes("a", names)) < 0 < max(hashes("a", names))


def message(names, trained, *, dataset="tiny", subset="test", split=1):
    with pytest.raises(CheckpointError) as caught:
        check_not_trained_on(
            "last.pt",
            names,
            dataset,
            hashes("tiny", trained),
            subset=subset,
            split=split,
            trained_split=1,
        )
    return str(caught.value)


def test_videos_that_were_not_trained_on():
    options = {"subset": "test", "split": 1, "trained_split": 1}
    check_not_trained_on("last.pt", NAMES[:2], "tiny", hashes("tiny", NAMES[2:]), **options)
    check_not_trained_on("last.pt", NAMES, "other", hashes("tiny", NAMES), **options)
    check_not_trained_on("last.pt", NAMES, "tiny", hashes("tiny", ()), **options)


def test_renamed_videos_are_known_by_their_origin():
    origins = {"tiny/walk/a.avi": ("tiny", "walk/a.avi")}
    assert hashes("both", ["tiny/walk/a.avi"], origins).tolist() == hashes("tiny", NAMES[:1])
    with pytest.raises(CheckpointError) as caught:
        check_not_trained_on(
            "last.pt",
            ["x.avi", "tiny/walk/a.avi"],
            "both",
            hashes("tiny", NAMES[:1]),
            subset="test",
            split=1,
            trained_split=1,
            origins=origins,
        )
    assert "1 of 2 test videos are among those that it was trained on (tiny/" in str(caught.value)


def test_videos_that_were_trained_on():
    assert message(NAMES, NAMES[1:2], split=2) == (
        "last.pt: 1 of 4 test videos are among those that it was trained on (walk/é.avi); "
        "choose the split that it was trained on (1), or --allow-trained to test on them anyway"
    )
    assert message(NAMES, NAMES, subset="train") == (
        "last.pt: 4 of 4 train videos are among those that it was trained on "
        "(walk/a.avi, walk/é.avi, run/b (1)!.avi, …); choose another --subset, "
        "or --allow-trained to test on them anyway"
    )
    assert message(NAMES, NAMES[1:], subset="val") == (
        "last.pt: 3 of 4 val videos are among those that it was trained on "
        "(walk/é.avi, run/b (1)!.avi, run/c.avi); split 1 has changed since, or its --weights were "
        "trained on another split; train again, into another --out, or "
        "--allow-trained to test on them anyway"
    )
