"""``tsn-preprocess``: from videos to shards."""

from __future__ import annotations

import click

from preprocess.commands.download import download
from preprocess.commands.export import export
from preprocess.commands.extract import extract
from preprocess.commands.import_frames import import_frames
from preprocess.commands.inspect import inspect
from preprocess.commands.plan import plan
from preprocess.commands.repack import repack
from preprocess.commands.retry import retry
from preprocess.commands.scan import scan
from preprocess.commands.synth import synth
from preprocess.commands.try_video import try_video
from preprocess.commands.verify import verify
from tsn_core.command_line import Program
from tsn_core.version import __version__


@click.group(cls=Program, context_settings={"show_default": True, "max_content_width": 100})
@click.version_option(__version__, prog_name="tsn-preprocess")
def main() -> None:
    """Videos to compact HDF5 shards of RGB frames, optical flow and RGB differences."""


_COMMANDS = (
    download,
    scan,
    plan,
    extract,
    retry,
    try_video,
    inspect,
    verify,
    synth,
    export,
    import_frames,
    repack,
)
for command in _COMMANDS:
    main.add_command(command)
