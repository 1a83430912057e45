"""Which datasets can be downloaded: their archives, checksums, layout, terms and numbers."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import PurePosixPath


@dataclass(frozen=True)
class Source:
    """One file on a server.

    Attributes:
        url: Where it is.
        known_hash: ``ALGORITHM:HEX`` as pooch writes it, or None where nobody has published one.
        vouched_by: Who has published the checksum.
    """

    url: str
    known_hash: str | None = None
    vouched_by: str = ""

    @property
    def name(self) -> str:
        """Name of the file."""
        return self.url.partition("?")[0].rpartition("/")[2]


@dataclass(frozen=True)
class Archive:
    """One archive of a dataset, and all places that have it.

    Attributes:
        role: ``videos`` or ``splits``: what lies in it.
        num_bytes: About its size, which is about that of its content, too.
        sources: In the order in which they are tried.
    """

    role: str
    num_bytes: int
    sources: tuple[Source, ...]


@dataclass(frozen=True)
class Published:
    """A dataset that can be downloaded.

    Attributes:
        name: As ``--dataset`` has it.
        home: Page of its authors.
        terms: Under which it may be used, as far as they say.
        citation: Of the paper.
        archives: What to fetch.
        num_videos, num_classes: What must be there in the end.
        place: Gives a file of an archive its place below the dataset's folder, from its path in
            the archive and the stem of the archive's name; None if it is not wanted.
    """

    name: str
    home: str
    terms: str
    citation: str
    archives: tuple[Archive, ...]
    num_videos: int
    num_classes: int
    place: Callable[[PurePosixPath, str], PurePosixPath | None]


_HMDB51_SPLITS = re.compile(r"^.+_test_split\d+\.txt$")


def place_hmdb51(path: PurePosixPath, stem: str) -> PurePosixPath | None:
    """Return the place of a file of HMDB51's archives.

    Examples:
        >>> str(place_hmdb51(PurePosixPath("wave/a.avi"), "wave"))
        'videos/wave/a.avi'
        >>> str(place_hmdb51(PurePosixPath("a.avi"), "wave"))
        'videos/wave/a.avi'
        >>> str(place_hmdb51(PurePosixPath("some/wave_test_split1.txt"), "test_train_splits"))
        'splits/wave_test_split1.txt'
    """
    if path.suffix.lower() == ".avi":
        return PurePosixPath("videos", path.parent.name or stem, path.name)
    return PurePosixPath("splits", path.name) if _HMDB51_SPLITS.match(path.name) else None


_UCF101_VIDEO = re.compile(r"^v_(?P<class>[^_]+)_g\d+_c\d+\.avi$")
_UCF101_SPLITS = re.compile(r"^(classInd|(train|test)list\d+)\.txt$")
_UCF101_CLASSES = {"HandStandPushups": "HandstandPushups"}  # two spellings within the dataset


def place_ucf101(path: PurePosixPath, stem: str) -> PurePosixPath | None:
    """Return the place of a file of UCF101's archives, with or without class folders in them.

    Examples:
        >>> str(place_ucf101(PurePosixPath("UCF-101/YoYo/v_YoYo_g01_c02.avi"), "UCF101"))
        'videos/YoYo/v_YoYo_g01_c02.avi'
        >>> str(place_ucf101(PurePosixPath("UCF101/v_HandStandPushups_g01_c02.avi"), "UCF101"))
        'videos/HandstandPushups/v_HandStandPushups_g01_c02.avi'
    """
    match = _UCF101_VIDEO.match(path.name)
    if match is not None:
        name = match["class"]
        return PurePosixPath("videos", _UCF101_CLASSES.get(name, name), path.name)
    return PurePosixPath("splits", path.name) if _UCF101_SPLITS.match(path.name) else None


_SERRE_LAB = "https://serre-lab.clps.brown.edu/wp-content/uploads/2013/10"
_SERRE_LAB_MIRROR = "https://huggingface.co/datasets/Serrelab/hmdb51/resolve/main"
_CRCV = "https://www.crcv.ucf.edu/data/UCF101"
# MD5 stands here because it is what was published; for a file that others made in 2013 and nobody
# can change in advance, it tells another file from this one.
_HMDB51_MD5 = "md5:517d6f1f19f215c45cdd4d25356be1fb"
_HMDB51_VOUCHED = "google-deepmind/brave, download_hmdb.py"
_HMDB51_SPLITS_MD5 = "md5:15e67781e70dcfbdce2d7dbb9b3344b5"
_HMDB51_SPLITS_VOUCHED = "torchvision, datasets/hmdb51.py"
_TFDS = "tensorflow_datasets, url_checksums/ucf101.txt"

HMDB51 = Published(
    name="hmdb51",
    home="https://serre.lab.brown.edu/hmdb51.html",
    terms="Creative Commons Attribution 4.0 International, by its authors' page",
    citation="Kuehne, Jhuang, Garrote, Poggio, Serre: HMDB: A Large Video Database for Human "
    "Motion Recognition, ICCV 2011",
    archives=(
        Archive(
            "videos",
            2_130_000_000,
            (
                Source(f"{_SERRE_LAB}/hmdb51_org.rar", _HMDB51_MD5, _HMDB51_VOUCHED),
                Source(f"{_SERRE_LAB_MIRROR}/hmdb51_org.rar", _HMDB51_MD5, _HMDB51_VOUCHED),
            ),
        ),
        Archive(
            "splits",
            250_000,
            (
                Source(
                    f"{_SERRE_LAB}/test_train_splits.rar",
                    _HMDB51_SPLITS_MD5,
                    _HMDB51_SPLITS_VOUCHED,
                ),
                Source(
                    f"{_SERRE_LAB_MIRROR}/test_train_splits.rar",
                    _HMDB51_SPLITS_MD5,
                    _HMDB51_SPLITS_VOUCHED,
                ),
            ),
        ),
    ),
    num_videos=6766,
    num_classes=51,
    place=place_hmdb51,
)

UCF101 = Published(
    name="ucf101",
    home="https://www.crcv.ucf.edu/data/UCF101.php",
    terms="none stated by its authors; the videos are YouTube users'",
    citation="Soomro, Zamir, Shah: UCF101: A Dataset of 101 Human Action Classes From Videos in "
    "The Wild, CRCV-TR-12-01, 2012",
    archives=(
        Archive(
            "videos",
            6_960_000_000,
            (
                # that of the THUMOS 2014 organisers comes first: it has a published checksum, and
                # ZIP is checked member by member, which libarchive does not do with RAR
                Source(
                    "https://storage.googleapis.com/thumos14_files/UCF101_videos.zip",
                    "sha256:dabf56f573cd19c79e096563529fec8126a2a34e18e10c72eb621dd687532b0d",
                    _TFDS,
                ),
                Source(f"{_CRCV}/UCF101.rar"),
            ),
        ),
        Archive(
            "splits",
            113_943,
            (
                Source(
                    f"{_CRCV}/UCF101TrainTestSplits-RecognitionTask.zip",
                    "sha256:5c0d1a53b8ed364a2ac830a73f405e51bece7d98ce1254fd19ed4a36b224bd27",
                    _TFDS,
                ),
            ),
        ),
    ),
    num_videos=13320,
    num_classes=101,
    place=place_ucf101,
)

PUBLISHED = {dataset.name: dataset for dataset in (HMDB51, UCF101)}
