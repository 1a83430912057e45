"""What the documents name must exist."""

import ast
import json
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
_TEST = re.compile(r"`tests/(\w+\.py)::(\w+)`")
_LINK = re.compile(r"\]\(([^)#\s]+)(?:#[^)]*)?\)")


def named_tests(text: str) -> list[tuple[str, str]]:
    """Return (file, function) of every test that a document names."""
    return _TEST.findall(text)


def test_functions(file: Path) -> set[str]:
    """Return the names of the tests in a file."""
    tree = ast.parse(file.read_text(encoding="utf-8"))
    names = {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
    return {name for name in names if name.startswith("test_")}


test_functions.__test__ = False  # type: ignore[attr-defined]  # it finds tests and is none


def documents() -> list[Path]:
    return [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")]


def test_every_test_that_a_document_names_exists():
    missing, found = [], 0
    for document in documents():
        for file, name in named_tests(document.read_text(encoding="utf-8")):
            path = ROOT / "tests" / file
            found += 1
            if not path.is_file() or name not in test_functions(path):
                missing.append(f"{document.relative_to(ROOT)}: tests/{file}::{name}")
    assert missing == []
    assert found > 50


def test_no_name_of_a_test_is_spelled_in_another_way():
    """Else the test above would not see it."""
    for document in documents():
        text = document.read_text(encoding="utf-8")
        assert text.count("::test_") == len(named_tests(text)), document


@pytest.mark.parametrize("topic", ["Consensus", "Sampling", "Augmentation", "Testing"])
def test_every_topic_of_the_method_names_its_tests(topic):
    text = (ROOT / "docs" / "method.md").read_text(encoding="utf-8")
    section = text.partition(f"\n## {topic}\n")[2].partition("\n## ")[0]
    assert len(named_tests(section)) >= 4


def test_links_between_documents_lead_somewhere():
    for document in documents():
        for target in _LINK.findall(document.read_text(encoding="utf-8")):
            if "://" not in target:
                assert (document.parent / target).exists(), f"{document.name}: {target}"


def test_the_table_of_simulated_clusters_is_the_measured_one():
    """Every row of docs/cluster.md, from the numbers that its script wrote."""
    result = json.loads((ROOT / "benchmarks" / "results" / "cluster.json").read_text())
    rows = {}
    for row in result["simulation"]:
        kind = "rgb" if row["modalities"] == "rgb" else "all, TV-L1"
        rows[kind, str(row["videos_per_shard"]), f"{row['workers']:,}"] = row
    text = (ROOT / "docs" / "cluster.md").read_text(encoding="utf-8")
    lines = [line for line in text.splitlines() if re.match(r"\| (rgb|all, TV-L1) \|", line)]
    assert len(lines) == 11
    for line in lines:
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        row = rows[tuple(cells[:3])]
        precision = 0.006 if row["hours"] > 0.1 else 0.0006  # of the digits that are shown
        assert float(cells[3]) == pytest.approx(row["hours"], abs=precision)
        assert cells[4:] == [
            f"{100 * row['idle_share']:.0f} %",
            f"{100 * row['scheduler_load']:.0f} %",
            f"{row['most_in_flight']:,}",
            f"{row['operations_per_second']:,.0f}",
        ]
