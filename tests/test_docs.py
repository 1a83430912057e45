"""What the documents name must exist."""

import ast
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import click
import pytest
import yaml
from program_helpers import PROGRAMS, site_hooks

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


# --- the site ---


def nav_pages(entry) -> list[str]:
    """Return the pages that a part of the nav names."""
    if isinstance(entry, str):
        return [entry]
    parts = entry.values() if isinstance(entry, dict) else entry
    return [page for part in parts for page in nav_pages(part)]


def test_the_site_has_every_page_once():
    config = SimpleNamespace(**yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8")))
    site_hooks.on_config(config)
    nav = nav_pages(config.nav)
    there = {path.relative_to(ROOT / "docs").as_posix() for path in ROOT.glob("docs/**/*.md")}
    made = set(site_hooks.made_pages())
    assert sorted(nav) == sorted(there | made), "the nav of mkdocs.yml names other pages"


def test_links_out_of_the_documents_lead_into_the_repository_or_nowhere():
    known = {"readme.md", "flow.md", "decisions/0001.md"}

    def seen(text, here="flow.md", source=None, url=None):
        return site_hooks._LINK.sub(
            lambda link: site_hooks._site_link(link, source or f"docs/{here}", here, known, url),
            text,
        )

    assert seen("[all](../README.md#limits)") == "[all](readme.md#limits)"
    assert seen("[f](../flow.md)", "decisions/0001.md") == "[f](../flow.md)"
    assert seen("[f](docs/flow.md)", "readme.md", "README.md") == "[f](flow.md)"
    assert seen("[d](docs/decisions/)", "readme.md", "README.md") == "[d](decisions/0001.md)"
    assert seen("[x](https://a.b/c)") == "[x](https://a.b/c)"
    assert seen("[`setup.cfg`](../setup.cfg)") == "`setup.cfg`"
    assert seen("[settings](../setup.cfg)") == "settings (`setup.cfg`)"
    code = "[settings](https://forge/a/b/blob/HEAD/setup.cfg)"
    assert seen("[settings](../setup.cfg)", url="https://forge/a/b/") == code
    folder = "[tests](https://forge/a/b/tree/HEAD/tests)"
    assert seen("[tests](../tests)", url="https://forge/a/b") == folder


@pytest.mark.parametrize("document", documents(), ids=lambda path: path.name)
def test_commands_in_documents_parse(document):
    """Those that stand in code blocks for the shell, as far as they are written out."""
    text = document.read_text(encoding="utf-8")
    for block in re.findall(r"^```bash\n(.*?)^```", text, re.MULTILINE | re.DOTALL):
        for line in block.replace("\\\n", " ").splitlines():
            words = shlex.split(line.removeprefix(".venv/bin/"), comments=True)
            if not words or words[0] not in PROGRAMS or set(line) & set("$…<>|"):
                continue
            if "depth" in words:  # the modality of docs/examples/depth, which is not installed
                continue
            command, words = PROGRAMS[words[0]], words[1:]
            if isinstance(command, click.Group):
                assert words[0] in command.commands, line
                command, words = command.commands[words[0]], words[1:]
            if words != ["--help"]:
                with command.make_context(line, words):
                    pass


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The built site; warnings are errors."""
    folder = tmp_path_factory.mktemp("docs") / "site"
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", folder],
        cwd=ROOT,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert "WARNING" not in done.stderr
    return folder


@pytest.mark.slow("builds the whole site")
def test_the_site_fetches_nothing(site):
    pages = list(site.rglob("*.html"))
    assert len(pages) > 25
    for page in pages:
        text = page.read_text(encoding="utf-8")
        fetched = re.findall(r"<(?:script|img|iframe)[^>]+src=[\"']?(https?:[^\"' >]+)", text)
        fetched += re.findall(r"<link[^>]+href=[\"']?(https?:[^\"' >]+)", text)
        assert fetched == [], page
    styles = "".join(path.read_text(encoding="utf-8") for path in site.rglob("*.css"))
    assert "@import" not in styles and not re.search(r"url\([\"']?https?:", styles)


@pytest.mark.slow("builds the whole site")
def test_the_site_has_every_option_and_the_public_functions(site):
    options = (site / "commands" / "tsn-preprocess.html").read_text(encoding="utf-8")
    assert "--videos-per-shard" in options and "[default: 340x256]" in options
    reference = (site / "python" / "shards.html").read_text(encoding="utf-8")
    assert 'id="tsn_core.shards.open_shards"' in reference


@pytest.mark.slow("builds the whole site")
def test_the_search_works_in_pages_opened_as_files(site, tmp_path):
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("chromium is not installed")
    done = subprocess.run(
        [
            *(chromium, "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run"),
            *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
            *(f"--user-data-dir={tmp_path}", "--virtual-time-budget=20000", "--dump-dom"),
            f"{(site / 'index.html').as_uri()}?q=optflow",
        ],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert "1 matching document" in done.stdout
    assert "faq.html" in done.stdout.partition("md-search-result__list")[2]
