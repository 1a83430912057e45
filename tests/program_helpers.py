"""Every program of setup.cfg, and the module that makes pages of them for the site."""

import importlib.util
from pathlib import Path
from types import ModuleType

import click

ROOT = Path(__file__).parent.parent


def _site_hooks() -> ModuleType:
    spec = importlib.util.spec_from_file_location("site_hooks", ROOT / "docs" / "site_hooks.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _load(place: str) -> click.Command:
    module, _, name = place.partition(":")
    return getattr(importlib.import_module(module), name)


site_hooks = _site_hooks()
PROGRAMS = {name: _load(place) for name, place in site_hooks.programs().items()}
