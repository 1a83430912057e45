"""The notebook in docs runs from top to bottom, and is kept without its outputs."""

import json
import os
import re
from pathlib import Path

import nbformat
from nbclient import NotebookClient

ROOT = Path(__file__).parent.parent
NOTEBOOK = ROOT / "docs" / "notebooks" / "shards.ipynb"


def shown(cell) -> str:
    """What a cell printed."""
    return "".join(output.text for output in cell.outputs if output.output_type == "stream")


def pictures(cell) -> list[str]:
    return [o.data["image/png"] for o in cell.outputs if "image/png" in o.get("data", {})]


def test_the_notebook_runs(tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    paths = [str(ROOT), os.environ.get("PYTHONPATH", "")]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, paths)))
    book = nbformat.read(NOTEBOOK, as_version=4)
    nbformat.validate(book)
    NotebookClient(
        book, timeout=300, kernel_name="python3", resources={"metadata": {"path": tmp_path}}
    ).execute()
    cells = [cell for cell in book.cells if cell.cell_type == "code"]
    assert [len(pictures(cell)) for cell in cells] == [0, 0, 0, 1, 1, 1]
    assert shown(cells[2]).startswith("24 videos of ")
    assert re.match(r"mean code 12[5-9]\.\d, clipped 0\.\d\d%\n", shown(cells[4]))
    right = re.fullmatch(r"(\d) of 6 test videos right\n", shown(cells[5]))
    assert right and int(right[1]) >= 4
    assert not any("stderr" in output.get("name", "") for cell in cells for output in cell.outputs)


def test_the_notebook_is_kept_without_outputs():
    content = json.loads(NOTEBOOK.read_text(encoding="utf-8"))
    assert (content["nbformat"], content["nbformat_minor"]) == (4, 5)
    for cell in content["cells"]:
        assert cell.get("outputs", []) == [] and cell.get("execution_count") is None
