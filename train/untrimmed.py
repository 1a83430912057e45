"""The files that ``tsn-train windows`` leaves: scores, windows, timelines, actions, metrics."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from train import overlap, several_classes
from train.actions import Action, ActionRule, find_actions, probabilities_over_time
from train.long_videos import LongVideo, timed
from train.scores import SCORES_NAME, Scores, subset_path, write_scores
from train.subsets import subset_numbers
from train.timeline import Timeline, actions_to_json, file_names, plot_timeline, write_timeline
from train.windows import moment_edges, pool_windows
from tsn_core.atomic import atomic_path, write_text
from tsn_core.errors import InputError
from tsn_core.listing import few
from tsn_core.manifest import Manifest
from tsn_core.shard_set import ShardSet


def choose_videos(
    shards: ShardSet, manifest: Manifest, split: int, subset: str, val_fraction: float
) -> tuple[list[int], list[str], list[str]]:
    """Return which videos to score, which of them are missing, and which have unknown times.

    Args:
        shards: Of one modality.
        manifest: Of the dataset.
        split: That the subset belongs to.
        subset: ``train``, ``val``, ``test``, or ``all`` for whatever the shards hold.
        val_fraction: See ``subset_names``.

    Raises:
        InputError: There are none.
    """
    videos = list(range(len(shards)))
    missing: list[str] = []
    if subset != "all":
        videos, missing = subset_numbers(shards, manifest, split, subset, val_fraction)
    known = [video for video in videos if timed(shards, video)]
    if not known:
        raise InputError(f"{shards.folder}: no {subset} videos whose frame rate is known")
    return known, missing, [shards.names[video] for video in videos if not timed(shards, video)]


class UntrimmedResults:
    """Takes videos as they are scored and writes what is known of them."""

    def __init__(
        self,
        folder: Path,
        shards: ShardSet,
        videos: Sequence[int],
        class_names: Sequence[str],
        annotated: Mapping[str, Sequence[Action]] | None,
        rule: ActionRule,
        subset: str,
    ) -> None:
        """Begin.

        Args:
            folder: To write into.
            shards: Whose videos they are.
            videos: Which are going to be added.
            class_names: Of the network, by class id.
            annotated: What is annotated, by video, may name others too; None if nobody asked.
            rule: What makes an action.
            subset: Of the videos; files have it in their names if it is not ``test``.
        """
        self._folder = folder
        self._subset = subset
        self._shards = shards
        self._class_names = list(class_names)
        self._rule = rule
        names = [shards.names[video] for video in videos]
        self._names = names
        self._files = dict(zip(names, file_names(names)))
        self._labelled = tuple(shards.class_names) == tuple(class_names)
        self._asked = annotated is not None
        given = annotated or {}
        self._annotated = {
            name: [one for one in given[name] if one.label != rule.background]
            for name in names
            if name in given
        }
        self._videos: list[LongVideo] = []
        self._found: dict[str, list[Action]] = {}

    def remarks(self, trained: Sequence[str]) -> Iterator[str]:
        """Yield what the user should know before anything is scored.

        Args:
            trained: Videos of the test that the network was trained on.
        """
        total = len(self._names)
        if trained:
            yield (
                f"{len(trained)} of {total} {self._subset} videos were trained on: the numbers say "
                "little of others"
            )
        if not self._labelled:
            yield (
                f"{self._shards.folder}: has other classes than the network; "
                "its labels are not used"
            )
        unknown = [name for name in self._names if name not in self._annotated]
        if self._asked and unknown:
            yield f"{len(unknown)} of {total} videos are not annotated: {few(unknown)}"

    def add(self, video: LongVideo) -> None:
        """Find the actions of a video, and write and draw its timeline."""
        name = self._shards.names[video.number]
        probabilities = probabilities_over_time(
            video.scores, video.times, self._rule.smooth_seconds
        )
        edges = moment_edges(video.times, video.duration_seconds)
        timeline = Timeline(
            name=name,
            duration_seconds=video.duration_seconds,
            fps=float(self._shards.fps[video.number]),
            times=video.times,
            edges=edges,
            probabilities=probabilities,
            found=find_actions(probabilities, edges, self._rule),
            annotated=self._annotated.get(name),
        )
        self._videos.append(video)
        self._found[name] = list(timeline.found)
        stem = self._folder / "timeline" / self._files[name]
        write_timeline(timeline, self._class_names, stem.with_name(f"{stem.name}.json"))
        picture = stem.with_name(f"{stem.name}.png")
        plot_timeline(timeline, self._class_names, picture, self._rule.threshold)

    def finish(self, settings: Mapping[str, Any]) -> list[str]:
        """Write the files on all videos and return what to print.

        Args:
            settings: That ``metrics.json`` should tell, too.
        """
        modality = self._shards.modality.folder
        # (V, scales, C), whose mean over the scales are the video's scores
        pooled = np.array(
            [[pool_windows(one) for _, one in video.scales] for video in self._videos]
        )
        metrics: dict[str, Any] = {"num_videos": len(self._videos)}
        lines = []
        names = ["windows.npz", "actions.json", "metrics.json"]
        shown = [self._shown(video) for video in self._videos]
        known = [place for place, labels in enumerate(shown) if labels]
        if known:
            row = several_classes.summarize(
                pooled.mean(axis=1)[known], [shown[place] for place in known]
            )
            metrics["videos"] = row
            lines.append(several_classes.table(modality, row))
            write_scores(self._scores(known, shown, pooled), self._path(SCORES_NAME))
            names.insert(0, SCORES_NAME)
        if self._annotated:
            row = self._overlap()
            metrics["actions"] = row
            lines.append(overlap.table(modality, row))
        metrics.update(rule=asdict(self._rule), subset=self._subset, **settings)
        write_text(self._path("metrics.json"), json.dumps(metrics, indent=1) + "\n")
        self._write_actions()
        self._write_windows()
        found = sum(map(len, self._found.values()))
        lines.append(f"{found} actions found in {len(self._videos)} videos")
        files = ", ".join(self._path(name).name for name in names)
        lines.append(f"{self._folder}: {files}, timeline/")
        return lines

    def _path(self, name: str) -> Path:
        return subset_path(self._folder / name, self._subset)

    def _shown(self, video: LongVideo) -> list[int]:
        """Return the classes that a video shows, the one that lasts longest first."""
        annotated = self._annotated.get(self._shards.names[video.number])
        if annotated:
            lasting = np.zeros(len(self._class_names))
            for one in annotated:
                lasting[one.label] += one.end_seconds - one.start_seconds
            order = np.argsort(-lasting, kind="stable").tolist()
            return [label for label in order if lasting[label] > 0]
        return [int(self._shards.labels[video.number])] if self._labelled else []

    def _scores(
        self, known: Sequence[int], shown: Sequence[Sequence[int]], pooled: np.ndarray
    ) -> Scores:
        """Return the scores of videos with a label, in the form that evaluated runs have."""
        videos = [self._videos[place].number for place in known]
        if self._labelled:
            labels = self._shards.labels[videos]
        else:
            labels = np.array([shown[place][0] for place in known], np.int64)
        return Scores(
            name=self._shards.modality.folder,
            names=np.array([self._shards.names[video] for video in videos]),
            labels=labels,
            scores=pooled[known],
            video_scores=pooled[known].mean(axis=1),
            class_names=np.array(self._class_names),
        )

    def _overlap(self) -> dict[str, Any]:
        names = list(self._annotated)
        numbers = [self._shards.number(name) for name in names]
        return overlap.summarize(
            [self._found[name] for name in names],
            [self._annotated[name] for name in names],
            len(self._class_names),
            self._shards.num_frames[numbers].tolist(),
            self._shards.fps[numbers].tolist(),
        )

    def _write_actions(self) -> None:
        videos = {}
        for video in self._videos:
            name = self._shards.names[video.number]
            videos[name] = {
                "duration_seconds": round(video.duration_seconds, 3),
                "fps": float(self._shards.fps[video.number]),
                "actions": actions_to_json(self._found[name], self._class_names),
            }
        content = {"class_names": self._class_names, "videos": videos}
        text = json.dumps(content, indent=1, ensure_ascii=False)
        write_text(self._path("actions.json"), text + "\n")

    def _write_windows(self) -> None:
        """Write the scores of all windows and snippets, as columns."""
        windows = [
            (place, scale, one, scores)
            for place, video in enumerate(self._videos)
            for scale, (one, scores) in enumerate(video.scales)
        ]
        counts = [len(scores) for _, _, _, scores in windows]
        snippets = [len(video.times) for video in self._videos]
        with (
            atomic_path(self._path("windows.npz")) as temporary,
            temporary.open("wb") as file,
        ):
            np.savez(
                file,
                names=np.array([self._shards.names[video.number] for video in self._videos]),
                class_names=np.array(self._class_names),
                window_video=np.repeat([place for place, _, _, _ in windows], counts),
                window_scale=np.repeat([scale for _, scale, _, _ in windows], counts),
                window_span=np.concatenate([one.spans for _, _, one, _ in windows]),
                window_scores=np.concatenate([scores for _, _, _, scores in windows]),
                snippet_video=np.repeat(np.arange(len(snippets)), snippets),
                snippet_time=np.concatenate([video.times for video in self._videos]),
                snippet_scores=np.concatenate([video.scores for video in self._videos]),
            )
