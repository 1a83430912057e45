"""What folders of images from other tools are: videos, labels, splits, counts, sizes.

Numbering: tsn-pytorch, mmaction2 and dense_flow count from 1, denseflow from 0 (``img_00000.jpg``);
the smallest number of a source's images of one kind tells which. With N frames there are N - 1
flow images (dense_flow, and denseflow with step 1), N - s (denseflow with step s), or N.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from preprocess.datasets.files import automatic_splits, read_class_names
from preprocess.exchange.images import image_size, jpeg_quality
from preprocess.exchange.list_files import Listed, list_split, read_list
from preprocess.exchange.source import FoundVideo, ImageReader
from tsn_core.errors import InputError, TSNError
from tsn_core.manifest import Manifest, Record

SLOTS = {"rgb": ("img",), "flow": ("x", "y")}


@dataclass(frozen=True)
class Probe:
    """What the first image of every video tells of one modality.

    Attributes:
        sizes: (height, width), by how many videos have them.
        qualities: Of JPEGs, likewise; None where no usual encoder wrote them.
    """

    sizes: Counter[tuple[int, int]]
    qualities: Counter[int | None]


def probe(videos: Mapping[str, FoundVideo], slot: str) -> Probe:
    """Look at the first image of every video; damaged ones are passed over."""
    found = Probe(Counter(), Counter())
    with ImageReader() as reader:
        for video in videos.values():
            run = video.runs.get(slot)
            if run is None:
                continue
            try:
                data = reader.read(run, run.numbers[0])
                found.sizes[image_size(data)] += 1
            except TSNError:
                continue
            found.qualities[jpeg_quality(data)] += 1
    return found


def bases(videos: Mapping[str, FoundVideo]) -> dict[str, int]:
    """Return the number of the first image, 0 or 1, by slot."""
    firsts: dict[str, int] = {}
    for video in videos.values():
        for slot, run in video.runs.items():
            firsts[slot] = min(firsts.get(slot, 1), run.numbers[0])
    return firsts


def defect(
    video: FoundVideo, modality: str, first: Mapping[str, int], listed: int | None
) -> str | None:
    """Return what is wrong with the numbers of a video's images, or None.

    Args:
        video: Its images.
        modality: ``rgb`` or ``flow``.
        first: Number of the first image by slot.
        listed: Frames or flow images that a list file says, or None.
    """
    slots = SLOTS[modality]
    missing = [slot for slot in slots if slot not in video.runs]
    if missing:
        there = next((slot for slot in slots if slot in video.runs), None)
        return f"flow_{there} without flow_{missing[0]}" if there else f"no {modality} images"
    for slot in slots:
        run = video.runs[slot]
        numbers = run.numbers
        for place, number in enumerate(numbers, first[slot]):
            if number != place:
                what = "is missing" if number > place else "stands there twice"
                return (
                    f"{run.name(min(place, number))} {what}; {len(numbers)} images from "
                    f"{run.name(numbers[0])} to {run.name(numbers[-1])}"
                )
    counts = [len(video.runs[slot].numbers) for slot in slots]
    if len(set(counts)) > 1:
        return f"{counts[0]} flow_x and {counts[1]} flow_y images"
    img = video.runs.get("img")
    if modality == "flow" and img is not None and counts[0] > len(img.numbers):
        return f"{counts[0]} flow images of {len(img.numbers)} frames"
    # a list may count frames, or the flow between them
    fits = (counts[0], counts[0] + 1) if modality == "flow" else (counts[0], counts[0] - 1)
    if listed is not None and listed not in fits:
        what = "flow images" if modality == "flow" else "images"
        return f"the list says {listed} frames, found {counts[0]} {what}"
    return None


def read_manifest_of(
    videos: Mapping[str, FoundVideo],
    lists: Sequence[Path],
    classes: Path | None,
    dataset: str,
) -> tuple[Manifest, dict[str, int]]:
    """Return the manifest, and the listed number of frames by name.

    Without lists the class is the folder that a video's folder lies in.

    Raises:
        InputError: A list or the classes do not go with the videos.
    """
    class_names = None if classes is None else read_class_names(classes)
    if not lists:
        return _by_folder(videos, class_names, dataset), {}
    match = _Match(videos)
    labels: dict[str, int] = {}
    counts: dict[str, int] = {}
    splits: dict[str, dict[int, str]] = defaultdict(dict)
    places = {path: list_split(path) for path in lists}
    # tsn-pytorch and mmaction2 call a split's test videos val
    has_test = any(place and place[0] == "test" for place in places.values())
    for path, place in places.items():
        for row in read_list(path):
            name = match.video(row)
            if labels.setdefault(name, row.label) != row.label:
                raise row.line.error(f"{name} had label {labels[name]} before, now {row.label}")
            counts[name] = min(row.num_frames, counts.get(name, row.num_frames))
            if place is not None:
                subset = "test" if place[0] == "val" and not has_test else place[0]
                if splits[name].setdefault(place[1], subset) != subset:
                    raise row.line.error(
                        f"{name} is for {splits[name][place[1]]} in split {place[1]} already"
                    )
    if class_names is None:
        class_names = _names_of_labels(labels)
    most = max(labels.values())
    if most >= len(class_names):
        raise InputError(
            f"{classes}: {len(class_names)} classes, but a list has label {most}; labels begin at 0"
        )
    if not any(splits.values()):
        splits.update(automatic_splits(labels.items()))
    records = tuple(Record(name, label, splits[name]) for name, label in labels.items())
    return Manifest(dataset, class_names, records), counts


class _Match:
    """Finds the video that a path in a list means, whatever either is relative to."""

    def __init__(self, videos: Mapping[str, FoundVideo]) -> None:
        self._tails: dict[str, list[str]] = defaultdict(list)
        for name in videos:
            parts = name.split("/")
            for place in range(len(parts)):
                self._tails["/".join(parts[place:])].append(name)

    def video(self, row: Listed) -> str:
        """Return the name of the video, or the path as it is where there is no such video."""
        parts = [part for part in row.path.split("/") if part not in ("", ".")]
        if ".." in parts:
            raise row.line.error(f"{row.path}: expected a path without ..")
        for place in range(len(parts)):
            found = self._tails.get("/".join(parts[place:]), [])
            if len(found) == 1:
                return found[0]
            if found:
                raise row.line.error(f"{row.path}: may be {found[0]} or {found[1]}")
        return "/".join(parts)


def _names_of_labels(labels: Mapping[str, int]) -> tuple[str, ...]:
    """Return the class folders' names where there is one for each label, else the labels."""
    above: dict[int, set[str]] = defaultdict(set)
    for name, label in labels.items():
        above[label].add(name.split("/")[-2] if "/" in name else "")
    number = max(labels.values()) + 1
    if number > 100_000:
        raise InputError(f"label {number - 1}: fewer than 100000 classes expected")
    single = [next(iter(names)) for names in above.values() if len(names) == 1]
    if len(single) == len(above) == len(set(single)) and "" not in single:
        return tuple(next(iter(above[k])) if k in above else str(k) for k in range(number))
    return tuple(map(str, range(number)))


def _by_folder(
    videos: Mapping[str, FoundVideo], class_names: tuple[str, ...] | None, dataset: str
) -> Manifest:
    flat = next((name for name in videos if "/" not in name), None)
    if flat is not None:
        raise InputError(
            f"{flat}: in no folder that names its class; name lists of 'path num_frames label' "
            "lines with --list"
        )
    classes = {name: name.split("/")[-2] for name in videos}
    class_names = class_names or tuple(sorted(set(classes.values())))
    ids = {name: number for number, name in enumerate(class_names)}
    unknown = next((name for name, label in classes.items() if label not in ids), None)
    if unknown is not None:
        raise InputError(f"{unknown}: --classes does not name the class {classes[unknown]!r}")
    labels = {name: ids[label] for name, label in classes.items()}
    splits = {name: {1: video.subset} for name, video in videos.items() if video.subset}
    if splits:
        if "test" not in {subset[1] for subset in splits.values()}:
            splits = {
                name: {1: "test" if subset[1] == "val" else subset[1]}
                for name, subset in splits.items()
            }
        chosen: Mapping[str, Mapping[int, str]] = splits
    else:
        chosen = automatic_splits(labels.items())
    records = tuple(Record(name, label, chosen.get(name, {})) for name, label in labels.items())
    return Manifest(dataset, class_names, records)
