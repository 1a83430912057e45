"""How others load the same snippets: folders of JPEGs, tars, and videos decoded on the fly.

All draw the same random crops, flips and snippets as our own loader and give float32 (K, L * C, H,
W), normalised, since that is what those pipelines hand to the network. What is done, and in which
order, follows tsn-pytorch's ``dataset.py`` and ``transforms.py``; no code of it is used.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import torch
from PIL import Image, ImageOps
from torch.utils.data import Dataset, IterableDataset, get_worker_info

from train.augmentation import random_box
from tsn_core.modality import get_modality

NUM_SEGMENTS, SIZE, NUM_SNIPPETS = 3, 224, 25
LENGTHS = {"rgb": 1, "flow": 5, "rgbdiff": 5}
_MEAN = {"rgb": (0.485, 0.456, 0.406), "rgbdiff": (0.485, 0.456, 0.406), "flow": (0.5,)}
_STD = {"rgb": (0.229, 0.224, 0.225), "rgbdiff": (0.229, 0.224, 0.225), "flow": (0.226,)}

Item = tuple[torch.Tensor, int]
Names = list[list[str]]  # of each of K snippets: its files


class Draw:
    """What is random about one item, the same for all loaders."""

    def __init__(self, place: int, height: int = 256, width: int = 340) -> None:
        generator = np.random.default_rng((0, place))
        bounds = np.ceil(np.linspace(0, NUM_SNIPPETS, NUM_SEGMENTS + 1)).astype(int)
        self.snippets = [int(generator.integers(*pair)) for pair in pairwise(bounds)]
        self.box = random_box(height, width, generator)
        self.mirrored = bool(generator.random() < 0.5)


def file_names(modality: str, snippets: Sequence[int]) -> Names:
    """Return the files of snippets in an exported folder, x before y of flow."""
    length = LENGTHS[modality]
    prefixes = {"rgb": ["img"], "rgbdiff": ["rgbdiff"], "flow": ["flow_x", "flow_y"]}[modality]
    return [
        [
            f"{prefix}_{snippet * length + unit + 1:05d}.jpg"
            for unit in range(length)
            for prefix in prefixes
        ]
        for snippet in snippets
    ]


def pil_images(images: Sequence[Any], modality: str, draw: Draw) -> torch.Tensor:
    """Return one snippet of PIL images, transformed image by image as tsn-pytorch does."""
    top, left, height, width = draw.box
    corners = (left, top, left + width, top + height)
    images = [image.crop(corners).resize((SIZE, SIZE), Image.BILINEAR) for image in images]
    if draw.mirrored:
        images = [image.transpose(Image.FLIP_LEFT_RIGHT) for image in images]
        if modality == "flow":
            images = [
                ImageOps.invert(image) if n % 2 == 0 else image for n, image in enumerate(images)
            ]
    if modality == "flow":
        stacked = np.concatenate([np.expand_dims(np.array(image), 2) for image in images], axis=2)
    else:
        stacked = np.concatenate([np.array(image) for image in images], axis=2)
    tensor = torch.from_numpy(stacked).permute(2, 0, 1).contiguous().float().div(255)
    repeats = len(tensor) // len(_MEAN[modality])
    for plane, mean, std in zip(tensor, _MEAN[modality] * repeats, _STD[modality] * repeats):
        plane.sub_(mean).div_(std)
    return tensor


def array_images(images: Sequence[np.ndarray], modality: str, draw: Draw) -> torch.Tensor:
    """Return one snippet of arrays (H, W) or (H, W, 3), transformed with OpenCV and NumPy."""
    top, left, height, width = draw.box
    planes = []
    for number, image in enumerate(images):
        cut = cv2.resize(image[top : top + height, left : left + width], (SIZE, SIZE))
        if draw.mirrored:
            cut = cv2.flip(cut, 1)
            if modality == "flow" and number % 2 == 0:
                cut = cv2.bitwise_not(cut)
        planes += [cut] if cut.ndim == 2 else cv2.split(cut)
    tensor = torch.from_numpy(np.stack(planes)).float().div_(255)
    repeats = len(tensor) // len(_MEAN[modality])
    mean = torch.tensor(_MEAN[modality] * repeats)[:, None, None]
    std = torch.tensor(_STD[modality] * repeats)[:, None, None]
    return tensor.sub_(mean).div_(std)


class Folder(Dataset):
    """Images from folders, one file for each."""

    def __init__(
        self, folders: Sequence[Path], modality: str, read: Callable[[Path, str, Draw], Any]
    ) -> None:
        self._folders = list(folders)
        self._modality = modality
        self._read = read

    def __len__(self) -> int:
        return 1 << 40

    def __getitem__(self, place: int) -> Item:
        draw = Draw(place)
        folder = self._folders[place % len(self._folders)]
        names = file_names(self._modality, draw.snippets)
        snippets = [
            self._read([folder / name for name in snippet], self._modality, draw)
            for snippet in names
        ]
        return torch.stack(snippets), place % 2


def with_pil(paths: Sequence[Path], modality: str, draw: Draw) -> torch.Tensor:
    """Read a snippet with PIL."""
    mode = "L" if modality == "flow" else "RGB"
    return pil_images([Image.open(path).convert(mode) for path in paths], modality, draw)


def with_cv2(paths: Sequence[Path], modality: str, draw: Draw) -> torch.Tensor:
    """Read a snippet with OpenCV."""
    if modality == "flow":
        images = [cv2.imread(str(path), cv2.IMREAD_GRAYSCALE) for path in paths]
    else:
        images = [cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB) for path in paths]
    return array_images(images, modality, draw)


class Tars(IterableDataset):
    """Samples of WebDataset tars, one for each video; only what is needed is decoded."""

    def __init__(self, tars: Sequence[Path], modality: str) -> None:
        self._tars = [str(path) for path in tars]
        self._modality = modality

    def __iter__(self) -> Iterator[Item]:
        import webdataset

        assert get_worker_info() is None or get_worker_info().num_workers == 1
        place = 0
        while True:
            for sample in webdataset.WebDataset(self._tars, shardshuffle=False, empty_check=False):
                yield self._item(sample, place)
                place += 1

    def _item(self, sample: dict[str, Any], place: int) -> Item:
        draw, stacked = Draw(place), get_modality(self._modality).stacked
        files = sorted(key for key in sample if key.endswith(".jpg"))  # one for each unit
        length = LENGTHS[self._modality]
        snippets = []
        for snippet in draw.snippets:
            chosen = [sample[key] for key in files[snippet * length : (snippet + 1) * length]]
            flag = cv2.IMREAD_GRAYSCALE if stacked else cv2.IMREAD_COLOR
            images = [cv2.imdecode(np.frombuffer(data, np.uint8), flag) for data in chosen]
            if stacked:
                images = [half for image in images for half in np.split(image, 2)]
            else:
                images = [cv2.cvtColor(image, cv2.COLOR_BGR2RGB) for image in images]
            snippets.append(array_images(images, self._modality, draw))
        return torch.stack(snippets), place % 2


class OnTheFly(Dataset):
    """Snippets decoded from H.264 when they are asked for."""

    def __init__(self, videos: Sequence[Path], modality: str, decode: Callable[..., Any]) -> None:
        self._videos = list(videos)
        self._modality = modality
        self._decode = decode

    def __len__(self) -> int:
        return 1 << 40

    def __getitem__(self, place: int) -> Item:
        draw = Draw(place)
        length = LENGTHS[self._modality]
        starts = [snippet * 10 for snippet in draw.snippets]  # 250 frames, 25 snippets
        count = 1 if self._modality == "rgb" else length + 1
        numbers = [start + offset for start in starts for offset in range(count)]
        frames = self._decode(self._videos[place % len(self._videos)], numbers)
        snippets = []
        for k in range(NUM_SEGMENTS):
            images = [frames[k * count + offset] for offset in range(count)]
            if self._modality == "rgbdiff":
                images = [cv2.addWeighted(b, 1, a, -1, 128) for a, b in pairwise(images)]
            snippets.append(array_images(images, self._modality, draw))
        return torch.stack(snippets), place % 2


def with_decord(path: Path, numbers: Sequence[int]) -> np.ndarray:
    """Decode frames with decord, (n, H, W, 3) RGB."""
    import decord

    reader = decord.VideoReader(str(path), ctx=decord.cpu(0), num_threads=1)
    return reader.get_batch(list(numbers)).asnumpy()


def with_pyav(path: Path, numbers: Sequence[int]) -> list[np.ndarray]:
    """Decode frames with PyAV, up to the last that is needed."""
    wanted, found = set(numbers), {}
    with av.open(path) as file:
        file.streams.video[0].thread_count = 1
        for number, frame in enumerate(file.decode(video=0)):
            if number in wanted:
                found[number] = frame.to_ndarray(format="rgb24")
            if len(found) == len(wanted):
                break
    return [found[number] for number in numbers]
