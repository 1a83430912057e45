"""Files that appear whole or not at all."""

import pytest

from tsn_core.atomic import write_text
from tsn_core.errors import OutputError


@pytest.mark.parametrize("name", ["x" * 255, "é" * 127])
def test_the_longest_names_can_be_written(tmp_path, name):
    write_text(tmp_path / name, "text")
    assert [file.name for file in tmp_path.iterdir()] == [name]


def test_a_name_that_is_too_long(tmp_path):
    with pytest.raises(OutputError, match=r"cannot be written: .*; shorten the name$"):
        write_text(tmp_path / ("x" * 256), "text")
    assert not list(tmp_path.iterdir())
