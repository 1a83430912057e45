"""Reading annotated actions; files may come from anywhere."""

import json

import pytest

from train.actions import Action
from train.annotations import read_annotations
from tsn_core.errors import InputError

CLASSES = ("left", "right")
GOOD = {"label": "left", "start_seconds": 1, "end_seconds": 2.5}


def video_with(*actions, **changes):
    return {"duration_seconds": 10.0, "fps": 12.5, "actions": list(actions), **changes}


def read(tmp_path, content, class_names=CLASSES):
    path = tmp_path / "annotations.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return read_annotations(path, class_names)


def message(tmp_path, content, class_names=CLASSES):
    with pytest.raises(InputError) as caught:
        read(tmp_path, content, class_names)
    text = str(caught.value)
    assert "\n" not in text
    return text.removeprefix(f"{tmp_path / 'annotations.json'}: ")


def test_actions_in_the_order_of_time(tmp_path):
    later = {"label": "right", "start_seconds": 4.5, "end_seconds": 10.0005, "score": 0.4}
    content = {
        "class_names": ["left", "right"],
        "videos": {"a/b.avi": video_with(later, GOOD), "c.avi": {**video_with(), "fps": None}},
    }
    assert read(tmp_path, content) == {
        "a/b.avi": [Action(1.0, 2.5, 0), Action(4.5, 10.0005, 1)],
        "c.avi": [],
    }


def test_no_file(tmp_path):
    path = tmp_path / "none.json"
    with pytest.raises(InputError) as caught:
        read_annotations(path, CLASSES)
    assert str(caught.value) == f"{path}: no annotations there; check --annotations"
    with pytest.raises(InputError) as caught:
        read_annotations(tmp_path, CLASSES)
    assert str(caught.value) == (
        f"{tmp_path}: cannot be read as JSON: [Errno 21] Is a directory: '{tmp_path}'"
    )


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ("", "cannot be read as JSON: Expecting value: line 1 column 1 (char 0)"),
        ("[" * 100_000, "cannot be read as JSON: nested too deeply"),
        ("1" * 5000, "cannot be read as JSON: a number of too many digits"),
        ("[]", '{"videos": {NAME: …}} expected, got something else'),
        ('{"database": {}}', '{"videos": {NAME: …}} expected, got something else'),
        ('{"videos": []}', '{"videos": {NAME: …}} expected, got something else'),
    ],
)
def test_another_file(tmp_path, content, text):
    found = message(tmp_path, content)
    if "nested" in text or "digits" in text:  # Python words these by version
        assert found.startswith("cannot be read as JSON: ")
        assert len(found) < 200
    else:
        assert found == text


@pytest.mark.parametrize(
    ("video", "text"),
    [
        (3, "an object with duration_seconds and actions expected"),
        ({"actions": []}, "duration_seconds must be a number, got null"),
        (video_with(duration_seconds="10"), 'duration_seconds must be a number, got "10"'),
        (video_with(duration_seconds=True), "duration_seconds must be a number, got true"),
        (video_with(duration_seconds=0), "duration_seconds must be > 0, got 0"),
        (video_with(duration_seconds=float("nan")), "duration_seconds must be a number, got NaN"),
        (video_with(actions=None), "actions must be a list"),
        (video_with(actions={"0": GOOD}), "actions must be a list"),
        (
            video_with(GOOD, 5),
            "action 1: an object with label, start_seconds and end_seconds expected",
        ),
        (
            video_with({**GOOD, "label": "up"}),
            'action 0: label must be a class of the network (left, right), got "up"',
        ),
        (
            video_with({**GOOD, "label": 0}),
            "action 0: label must be a class of the network (left, right), got 0",
        ),
        (
            video_with({**GOOD, "label": ["left"] * 99}),
            'action 0: label must be a class of the network (left, right), got ["left", "left", '
            '"left", "left", "left"…',
        ),
        (
            video_with({**GOOD, "start_seconds": None}),
            "action 0: start_seconds must be a number, got null",
        ),
        (
            video_with({**GOOD, "end_seconds": float("inf")}),
            "action 0: end_seconds must be a number, got Infinity",
        ),
        (
            video_with({**GOOD, "end_seconds": 10**400}),
            "action 0: end_seconds must be a number, got 1" + "0" * 38 + "…",
        ),
        (
            video_with({**GOOD, "start_seconds": -0.5}),
            "action 0: 0 <= start_seconds < end_seconds <= 10 expected, got -0.5 and 2.5",
        ),
        (
            video_with(GOOD, {**GOOD, "end_seconds": 1}),
            "action 1: 0 <= start_seconds < end_seconds <= 10 expected, got 1 and 1",
        ),
        (
            video_with({**GOOD, "end_seconds": 10.1}),
            "action 0: 0 <= start_seconds < end_seconds <= 10 expected, got 1 and 10.1",
        ),
    ],
)
def test_values_that_make_no_sense(tmp_path, video, text):
    found = message(tmp_path, {"videos": {"good.avi": video_with(GOOD), "a/b.avi": video}})
    separator = ", " if text.startswith("action ") else ": "
    assert found == f"a/b.avi{separator}{text}"


def test_names_that_would_break_the_line(tmp_path):
    assert message(tmp_path, {"videos": {"a\nerror: b": 3}}) == (
        "'a\\nerror: b': an object with duration_seconds and actions expected"
    )


def test_many_classes_are_not_all_listed(tmp_path):
    names = [f"c{n}" for n in range(400)]
    assert message(tmp_path, {"videos": {"a": video_with(GOOD)}}, names) == (
        "a, action 0: label must be a class of the network "
        '(c0, c1, c2, c3, c4, c5, c6, c7, …), got "left"'
    )
