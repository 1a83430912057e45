"""What MkDocs does not do by itself: pages made when the site is built, and links out of docs/.

Command lines come from the programs, modules from their docstrings, README and changelog from the
files that the forge shows. Links that leave ``docs/`` lead into the repository if ``repo_url`` is
set, and are plain text otherwise.
"""

from __future__ import annotations

import configparser
import importlib
import posixpath
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import click

ROOT = Path(__file__).resolve().parent.parent
COPIED = {  # file beside docs/: its page
    "README.md": "readme.md",
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
}
MODULES = {  # page: title, modules
    "python/shards.md": (
        "Reading shards",
        ("shards", "shard_set", "torch_dataset", "array_batches", "clips", "check"),
    ),
    "python/files.md": (
        "The files",
        (
            *("shard_format", "shard_file", "shard_writer", "index", "manifest"),
            *("codec", "location", "atomic", "errors"),
        ),
    ),
    "python/modalities.md": (
        "Modalities and sampling",
        ("modality_kind", "modality", "modality_registry", "quantization", "sampling"),
    ),
    "python/networks.md": ("Networks", ("tsn", "consensus", "backbone", "temporal_shift")),
    "python/extraction.md": (
        "Extraction",
        (
            *("preprocess.extract", "preprocess.work", "preprocess.limits", "preprocess.executor"),
            *("preprocess.video", "preprocess.flow", "preprocess.tvl1", "preprocess.camera"),
        ),
    ),
    "python/training.md": (
        "Training and testing",
        (
            *("train.settings", "train.training", "train.evaluate", "train.scores"),
            *("train.fuse", "train.metrics", "train.bootstrap", "train.run_folder"),
        ),
    ),
}
_LINK = re.compile(r"(!?)\[((?:[^\[\]]|\[[^\[\]]*\])*)\]\(([^)\s]+)\)")
_FENCE = re.compile(r"^(```.*?^```)", re.MULTILINE | re.DOTALL)


def programs() -> dict[str, str]:
    """Return the place of every program of setup.cfg by its name."""
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg", encoding="utf-8")
    lines = setup["options.entry_points"]["console_scripts"].strip().split("\n")
    return dict(line.split(" = ") for line in lines)


def made_pages() -> dict[str, str]:
    """Return the text of every page that no file in docs/ holds, by its path in the site."""
    pages = {page: (ROOT / name).read_text(encoding="utf-8") for name, page in COPIED.items()}
    for page, (title, modules) in MODULES.items():
        names = [name if "." in name else f"tsn_core.{name}" for name in modules]
        pages[page] = "\n\n".join([f"# {title}", *(f"::: {name}" for name in names)])
    if str(ROOT) not in sys.path:
        sys.path.insert(0, str(ROOT))
    for name, place in programs().items():
        module, _, attribute = place.partition(":")
        program = getattr(importlib.import_module(module), attribute)
        pages[f"commands/{name}.md"] = program_page(name, program)
    return pages


def on_config(config: Any) -> None:
    """Put the pages of the programs into the nav, where it has an empty list of commands."""
    for part in _parts(config.nav):
        if part.get("Commands") == []:
            part["Commands"] = [{name: f"commands/{name}.md"} for name in programs()]


def _parts(nav: list[Any]) -> Iterator[dict[str, Any]]:
    """Yield every titled part of a nav, those within others too."""
    for part in nav:
        if isinstance(part, dict):
            yield part
            for inner in part.values():
                if isinstance(inner, list):
                    yield from _parts(inner)


def on_files(files: Any, config: Any) -> Any:
    """Add the pages that are made."""
    from mkdocs.structure.files import File

    for page, text in made_pages().items():
        files.append(File.generated(config, page, content=text))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Any) -> str:
    """Turn links that leave docs/ into links that work in the site."""
    here = page.file.src_uri
    source = {copy: name for name, copy in COPIED.items()}.get(here, f"docs/{here}")
    known = {file.src_uri for file in files}
    parts = _FENCE.split(markdown)
    parts[::2] = [
        _LINK.sub(lambda link: _site_link(link, source, here, known, config.repo_url), part)
        for part in parts[::2]
    ]
    return "".join(parts)


def _site_link(
    link: re.Match[str], source: str, here: str, known: set[str], repo_url: str | None
) -> str:
    """Return a link of a file of the repository as one of the page of the site made of it."""
    mark, text, target = link.groups()
    path, _, anchor = target.partition("#")
    if not path or "://" in path or path.startswith("mailto:"):
        return link.group()
    place = posixpath.normpath(posixpath.join(posixpath.dirname(source), path))
    page = COPIED.get(place) or place.removeprefix("docs/")
    inside = sorted(name for name in known if name.startswith(f"{page}/") and name.endswith(".md"))
    if place.startswith("docs/") and inside:
        page = inside[0]  # a folder: its first page
    if page in known and (place in COPIED or place.startswith("docs/")):
        found = posixpath.relpath(page, posixpath.dirname(here) or ".")
        return f"{mark}[{text}]({found}{'#' * bool(anchor)}{anchor})"
    if repo_url:
        kind = "tree" if (ROOT / place).is_dir() else "blob"
        return f"[{text}]({repo_url.rstrip('/')}/{kind}/HEAD/{place})"
    return text if text.startswith("`") else f"{text} (`{place}`)" if text != place else f"`{text}`"


# --- the pages of the programs ---


def program_page(name: str, program: click.Command) -> str:
    """Return the page of a program: what ``--help`` says of each of its commands."""
    import click

    outer = click.Context(
        program, info_name=name, **{**program.context_settings, "terminal_width": 100}
    )
    if not isinstance(program, click.Group):
        return "\n\n".join([f"# {name}", *_sections(outer)])
    parts = [f"# {name}", _prose(program.help)]
    for word, command in sorted(program.commands.items(), key=lambda item: item[0] == "completion"):
        parts.append(f"## {word}")
        parts += _sections(click.Context(command, info_name=word, parent=outer))
    return "\n\n".join(parts)


def _sections(context: click.Context) -> list[str]:
    import click

    from tsn_core.help_text import examples, wrapped

    command = context.command
    pieces = " ".join(command.collect_usage_pieces(context))
    code = "\n".join(wrapped(line) for line in examples(command))
    parts = [_prose(command.help), f"`{context.command_path} {pieces}`", f"```bash\n{code}\n```"]
    options = []
    for option in command.params:
        record = option.get_help_record(context) if isinstance(option, click.Option) else None
        if record is not None:
            text, bracket, more = record[1].partition("[default")
            required = text.endswith("[required]")
            text = _escaped(text.removesuffix("[required]").strip())
            extra = " *required*" if required else ""
            if bracket:
                extra = f" *{_escaped(('[default' + more).strip())}*"
            options.append(f"`{record[0]}`\n:   {text}{extra}")
    return [*parts, *options]


def _prose(text: str | None) -> str:
    """Return the paragraphs of a help text but the examples."""
    paragraphs = (text or "").split("\n\n")
    return "\n\n".join(_escaped(part) for part in paragraphs if not part.startswith("\b"))


def _escaped(text: str) -> str:
    """Return text as Markdown that shows it as it is."""
    text = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return re.sub(r"([\\`*_{}\[\]#])", r"\\\1", text)
