"""``tsn-predict``: what happens in a video, by trained networks."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tsn_core.command_line import Location, OneCommand
from tsn_core.errors import InputError, VideoError
from tsn_core.version import __version__

if TYPE_CHECKING:
    import torch

    from train.timeline import Timeline
    from tsn_app.live import LiveRule
    from tsn_app.prediction import Ensemble, Extraction, Prediction

_PATH = click.Path(path_type=Path)


@click.command(cls=OneCommand, context_settings={"show_default": True, "max_content_width": 100})
@click.version_option(__version__, prog_name="tsn-predict")
@click.argument("videos", nargs=-1, required=True, metavar="VIDEO…")
@click.option(
    "--run", "runs", type=_PATH, multiple=True, required=True,
    help="Folder of a training; may be repeated, to fuse modalities.",
)  # fmt: skip
@click.option("--weights", help="Of the runs, such as 1,1.5.  [default: rgb 1, flow 1.5, others 1]")
@click.option("--checkpoint", type=click.Choice(["auto", "last", "best"]), default="auto",
              help="best is what val videos chose; auto takes it where there is one.")  # fmt: skip
@click.option(
    "--shards", type=Location(),
    help="A dataset whose settings to extract with.  [default: those of the training]",
)  # fmt: skip
@click.option("--num-snippets", type=int, default=25, help="Of each video that are scored.")
@click.option(
    "--crops",
    type=click.Choice(["1", "3", "10"]),
    default="1",
    help="Of each snippet: the centre, 3 squares, or 10 with mirrored ones.",
)
@click.option(
    "--flow-weights", metavar="FILE",
    help="Of RAFT, for runs on its flow.  [default: those of the training, if kept here]",
)  # fmt: skip
@click.option("--top", type=int, default=5, help="Classes to show.")
@click.option("--json", "as_json", is_flag=True, help="Print a line of JSON for each video.")
@click.option("--overlay", type=_PATH, help="Video file to write, with the class on its frames.")
@click.option("--timeline", is_flag=True, help="Find actions and their times, in untrimmed video.")
@click.option("--timeline-png", type=_PATH, help="Picture of the probabilities over time.")
@click.option("--fps", type=float, default=5.0, help="Snippets a second for --timeline.")
@click.option("--scales", default="1,2,4,8,16", help="Windows of --timeline, in seconds.")
@click.option("--threshold", type=float, default=0.5, help="Least probability of an action.")
@click.option("--window", type=float, default=4.0, help="Of a stream: seconds that are scored.")
@click.option("--every", type=float, default=1.0, help="Of a stream: seconds between predictions.")
@click.option("--seconds", type=float, help="Of a stream: when to stop.  [default: at its end]")
@click.option("--max-seconds", type=float, help="Give up a video after so long.  [default: any]")
@click.option(
    "--isolation/--no-isolation", default=sys.platform != "win32",
    help="Decode in a process that may crash without harm.",
)  # fmt: skip
@click.option("--device", default="auto", help="auto, cpu, cuda or cuda:N.")
def main(
    videos: tuple[str, ...],
    runs: tuple[Path, ...],
    weights: str | None,
    checkpoint: str,
    shards: Path | None,
    num_snippets: int,
    crops: str,
    flow_weights: str | None,
    top: int,
    as_json: bool,
    overlay: Path | None,
    timeline: bool,
    timeline_png: Path | None,
    fps: float,
    scales: str,
    threshold: float,
    window: float,
    every: float,
    seconds: float | None,
    max_seconds: float | None,
    isolation: bool,
    device: str,
) -> None:
    """Say what happens in videos, with one or more trained networks.

    A video is decoded once, extracted in memory exactly as the training shards were, scored by
    every run, and fused. VIDEO is a file, camera:0, or the address of a stream such as rtsp://….

    Example: tsn-predict clip.mp4 --run runs/hmdb51/rgb-split1 --run runs/hmdb51/flow-split1

    Example: tsn-predict match.mp4 --run runs/flow --timeline --overlay labelled.mp4
    """
    from preprocess.flow_weights import check_weights
    from preprocess.limits import Limits
    from train.actions import ActionRule
    from train.devices import choose_device
    from train.predictor import open_predictor
    from train.settings import parse_numbers
    from tsn_app.live import LiveRule
    from tsn_app.prediction import Extraction, make_ensemble
    from tsn_app.stream import is_stream, shown_address
    from tsn_core.heap import keep_freed_memory

    keep_freed_memory()
    for option, value in (("--num-snippets", num_snippets), ("--top", top)):
        if value < 1:
            raise InputError(f"{option} must be > 0, got {value}")
    if len(videos) > 1 and (overlay or timeline_png):
        raise InputError(f"--overlay and --timeline-png take one video, got {len(videos)}")
    streams = [video for video in videos if is_stream(video)]
    if streams and (len(videos) > 1 or overlay or timeline or timeline_png):
        raise InputError(
            f"{shown_address(streams[0])}: a stream comes alone, without --overlay and --timeline"
        )
    if overlay is not None:
        from tsn_app.overlay import check_target

        check_target(Path(videos[0]), overlay)
    lengths = parse_numbers("--scales", scales, "1,2,4,8,16")
    predictors = [open_predictor(run, checkpoint=checkpoint, shards=shards) for run in runs]
    check_weights([predictor.modality for predictor in predictors], flow_weights)
    chosen = choose_device(device)
    work = _Work(
        make_ensemble(predictors, parse_numbers("--weights", weights or "", "1,1.5")),
        num_snippets=num_snippets,
        crops=int(crops),
        device=chosen,
        top=top,
        as_json=as_json,
    )
    gpu = f"cuda:{chosen.index or 0}" if chosen.type == "cuda" else None
    extraction = Extraction(work.ensemble, Limits(max_seconds=max_seconds), isolation, gpu)
    if streams:
        work.stream(streams[0], extraction, LiveRule(window, every, seconds))
        return
    over_time = None
    if timeline or timeline_png:
        over_time = _OverTime(fps, tuple(lengths), ActionRule(threshold), timeline_png)
    failed = 0
    for video in videos:
        try:
            work.file(Path(video), extraction, over_time, overlay)
        except VideoError as error:  # noqa: PERF203
            failed += 1
            click.echo(f"error: {video}: {error}", err=True)
    _end_processes()
    if failed:
        if len(videos) > 1:
            click.echo(f"{failed} of {len(videos)} videos failed", err=True)
        sys.exit(1)


def _end_processes() -> None:
    from preprocess.isolation import end_processes

    end_processes()


class _OverTime:
    """What ``--timeline`` asks for."""

    def __init__(self, fps: float, scales: tuple[float, ...], rule: Any, png: Path | None) -> None:
        self.fps = fps
        self.scales = scales
        self.rule = rule
        self.png = png


class _Work:
    """Predicts and prints, file by file or as a stream comes."""

    def __init__(
        self,
        ensemble: Ensemble,
        *,
        num_snippets: int,
        crops: int,
        device: torch.device,
        top: int,
        as_json: bool,
    ) -> None:
        self.ensemble = ensemble
        self._num_snippets = num_snippets
        self._crops = crops
        self._device = device
        self._top = top
        self._as_json = as_json

    def file(
        self,
        path: Path,
        extraction: Extraction,
        over_time: _OverTime | None,
        overlay: Path | None,
    ) -> None:
        """Predict a file and print what was found."""
        import time

        from tsn_app.prediction import plans_for, predict

        began = time.perf_counter()
        made, note = extraction.file(path, plans_for(self.ensemble, self._num_snippets))
        prediction = predict(
            self.ensemble,
            made,
            num_snippets=self._num_snippets,
            crops=self._crops,
            device=self._device,
            began=began,
            note=note,
        )
        timeline = None
        if over_time is not None:
            timeline = self._timeline(path, extraction, over_time)
        self._print(prediction, timeline)
        if overlay is not None:
            self._overlay(path, overlay, prediction, timeline)

    def _timeline(self, path: Path, extraction: Extraction, asked: _OverTime) -> Timeline:
        from train.timeline import plot_timeline
        from train.windows import STRIDE
        from tsn_app.video_timeline import find_timeline
        from tsn_core.sampling import SnippetPlan

        plans = [SnippetPlan(fps=asked.fps)] * len(self.ensemble.predictors)
        made, _ = extraction.file(path, plans)
        found = find_timeline(
            self.ensemble,
            made,
            asked.rule,
            scales=asked.scales,
            stride=STRIDE,
            crops=self._crops,
            device=self._device,
        )
        if asked.png is not None:
            asked.png.parent.mkdir(parents=True, exist_ok=True)
            plot_timeline(found, self.ensemble.class_names, asked.png, asked.rule.threshold)
        return found

    def _overlay(
        self, path: Path, target: Path, prediction: Prediction, timeline: Timeline | None
    ) -> None:
        from tsn_app.overlay import write_overlay

        encoder = write_overlay(path, target, self._captions(prediction, timeline))
        click.echo(f"{target}: written with {encoder}, without sound", err=True)

    def _captions(
        self, prediction: Prediction, timeline: Timeline | None
    ) -> Callable[[float], tuple[str, float] | None]:
        names = self.ensemble.class_names
        if timeline is None:
            label = prediction.best(1)[0]
            caption = (names[label], float(prediction.probabilities[label]))
            return lambda _: caption
        actions = timeline.found

        def at(seconds: float) -> tuple[str, float] | None:
            inside = [one for one in actions if one.start_seconds <= seconds <= one.end_seconds]
            best = max(inside, key=lambda one: one.score, default=None)
            return None if best is None else (names[best.label], best.score)

        return at

    def _print(self, prediction: Prediction, timeline: Timeline | None) -> None:
        from rich.console import Console

        from tsn_app.prediction_text import action_lines, pace, table, to_json

        if self._as_json:
            click.echo(to_json(self.ensemble, prediction, self._top, timeline))
            return
        console = Console(highlight=False)
        console.print(prediction.name, style="bold", markup=False, soft_wrap=True)
        console.print(table(self.ensemble, prediction, self._top, console.width))
        if timeline is not None:
            for line in action_lines(timeline.found, self.ensemble.class_names):
                console.print(line, markup=False, soft_wrap=True)
        if prediction.note:
            console.print(prediction.note, style="yellow", markup=False, soft_wrap=True)
        console.print(pace(prediction), style="dim", markup=False, soft_wrap=True)

    def stream(self, address: str, extraction: Extraction, rule: LiveRule) -> None:
        """Predict a stream until it ends, or Ctrl-C."""
        from rich.console import Console
        from rich.live import Live

        from tsn_app.live import watch
        from tsn_app.prediction import plans_for
        from tsn_app.prediction_text import table, to_json
        from tsn_app.stream import Stream

        stream = Stream(address)
        console = Console(highlight=False)
        predictions = watch(
            stream,
            self.ensemble,
            extraction,
            plans_for(self.ensemble, self._num_snippets),
            rule,
            num_snippets=self._num_snippets,
            crops=self._crops,
            device=self._device,
        )
        try:
            if self._as_json or not console.is_terminal:
                for seconds, prediction in predictions:
                    if self._as_json:
                        click.echo(to_json(self.ensemble, prediction, self._top))
                    else:
                        label = prediction.best(1)[0]
                        share = 100 * prediction.probabilities[label]
                        click.echo(
                            f"{seconds:.1f} s  {self.ensemble.class_names[label]}  {share:.0f} %"
                        )
                return
            with Live(console=console, auto_refresh=False) as live:
                for _, prediction in predictions:
                    live.update(
                        table(self.ensemble, prediction, self._top, console.width), refresh=True
                    )
        except KeyboardInterrupt:
            click.echo("stopped", err=True)
        finally:
            stream.close()


if __name__ == "__main__":
    main()
