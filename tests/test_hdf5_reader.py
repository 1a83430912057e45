"""Our own reading of HDF5 gives what the library gives, and refuses what it cannot know."""

import io
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tsn_core.errors import ShardError
from tsn_core.hdf5_blocks import StructureError
from tsn_core.hdf5_file import fixed_texts, written_hdf5
from tsn_core.hdf5_reader import Hdf5Reader

DTYPES = ("<i1", "<i4", "<i8", ">i4", "<u1", "<u4", "<f2", "<f4", "<f8")


def reader(data: bytes) -> Hdf5Reader:
    return Hdf5Reader(io.BytesIO(data), len(data))


def written(path: Path, attributes: dict, datasets: dict) -> bytes:
    with written_hdf5(path) as file:
        for name, value in attributes.items():
            file.attrs[name] = value
        for name, value in datasets.items():
            file.create_dataset(name, data=value)
    return path.read_bytes()


attributes = st.dictionaries(
    st.text("abcdé_", min_size=1, max_size=20),
    st.one_of(
        st.integers(-(2**63), 2**63 - 1).map(np.int64),
        st.floats(allow_nan=False).map(np.float64),
        st.integers(0, 6000).map(lambda size: fixed_texts(["x" * size])[0]),
        st.lists(st.text("aé ", max_size=9), min_size=1, max_size=400).map(fixed_texts),
    ),
    max_size=20,
)
datasets = st.dictionaries(
    st.text("abcdefgh", min_size=1, max_size=12),
    st.tuples(st.sampled_from(DTYPES), st.lists(st.integers(0, 5), min_size=1, max_size=3)),
    max_size=30,
)


@settings(deadline=None)
@given(attributes=attributes, datasets=datasets)
def test_what_the_library_wrote_reads_back(attributes, datasets, tmp_path_factory):
    path = tmp_path_factory.mktemp("hdf5") / "a.h5"
    generator = np.random.default_rng(0)
    arrays = {
        name: generator.integers(0, 100, shape).astype(dtype)
        for name, (dtype, shape) in datasets.items()
    }
    file = reader(written(path, attributes, arrays))
    assert set(file.attributes) == set(attributes)
    for name, value in attributes.items():
        found = file.attributes[name]
        if np.ndim(value):
            assert found == tuple(value.tolist())
        else:
            assert found == (value.decode() if isinstance(value, bytes) else value.item())
    with h5py.File(path) as library:
        for name, array in arrays.items():
            read = file.array(name, array.dtype)
            assert read.dtype == array.dtype and np.array_equal(read, array)
            assert file.stored(name).shape == array.shape
            assert file.stored(name).offset == (library[name].id.get_offset() or 0)


@pytest.mark.parametrize("length", [1, 100, 4000, 4096, 5000, 100_000])
def test_attributes_of_any_length(tmp_path, length):
    """Small ones lie in the header or in blocks of a heap, large ones by themselves."""
    values = {f"number {n}": fixed_texts([f"{n}" * length])[0] for n in range(10)}
    file = reader(written(tmp_path / "a.h5", values, {}))
    assert file.attributes == {name: value.decode() for name, value in values.items()}


def message_of(function, *arguments, error=StructureError):
    with pytest.raises(error) as caught:
        function(*arguments)
    return str(caught.value)


def test_other_files_are_refused(tmp_path):
    assert message_of(reader, b"text") == "not an HDF5 file"
    old, new = tmp_path / "old.h5", tmp_path / "new.h5"
    with h5py.File(old, "w") as file:
        file["a"] = np.zeros(3)
    assert message_of(reader, old.read_bytes()) == (
        "HDF5's superblock at byte 0 does not match its checksum"
    )
    with h5py.File(new, "w", libver=("v110", "v110"), userblock_size=512) as file:
        file["a"] = np.zeros(3)
    assert message_of(reader, new.read_bytes()) == "not an HDF5 file"
    many = written(tmp_path / "many.h5", {f"{n}": n for n in range(100)}, {})
    assert message_of(reader, many) == "too many entries in an index of HDF5"


def test_a_changed_byte_is_told_by_its_place(tmp_path):
    data = bytearray(written(tmp_path / "a.h5", {"a": 1}, {"b": np.zeros(3)}))
    place = data.index(b"OHDR")
    data[place + 40] ^= 1
    assert message_of(reader, bytes(data)) == (
        f"HDF5's OHDR at byte {place} does not match its checksum"
    )
    assert message_of(reader, bytes(data[:-1]) + bytes(2)) == (
        f"truncated: {len(data)} bytes expected, got {len(data) + 1}"
    )


def test_datasets_of_other_kinds_are_refused(tmp_path):
    data = written(
        tmp_path / "a.h5",
        {},
        {"text": fixed_texts(["é", "x"]), "bad": np.array([b"\xff"]), "number": np.int32([1])},
    )
    file = reader(data)
    assert file.texts("text") == ("é", "x")
    assert message_of(file.texts, "bad", error=ShardError) == (
        "bad: texts in UTF-8 expected, got other bytes"
    )
    assert message_of(file.texts, "number", error=ShardError) == (
        "number: strings of one length expected"
    )
    assert message_of(file.array, "text", np.dtype("<i4"), error=ShardError) == (
        "text: int32 expected, got bytes16"
    )
    assert message_of(file.stored, "none", error=ShardError) == (
        "none: a dataset in the file expected, got none or a link"
    )
