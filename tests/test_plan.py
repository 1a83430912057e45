"""Foretelling an extraction: the arithmetic, and the command on a tiny dataset."""

import json
import math
import re
from pathlib import Path

import numpy as np
import psutil
import pytest
from conftest import moving_frames, stored, write_clip

from preprocess import plan_text
from preprocess.forecast import forecast
from preprocess.measurements import Crowd, Failure, Probe, Process, Source, Survey
from preprocess.planning import (
    choose_law,
    efficiency,
    estimate,
    failure_interval,
    fit_law,
    leave_one_out,
    makespan,
    sample_sizes,
    stratified,
)
from preprocess.survey import thinning

SMALL = ("--size", "32x24", "--snippets", "3", "--codec", "raw")
FAST = ("--modality", "rgb", "--modality", "rgbdiff", "--modality", "flow", "--flow", "farneback")


def generator(seed=0):
    return np.random.default_rng(seed)


# --- which videos ---


@pytest.mark.parametrize(("num_videos", "number"), [(1, 1), (5, 3), (100, 12), (7, 20)])
def test_a_stratified_sample_holds_videos_of_all_sizes(num_videos, number):
    sizes = generator(1).integers(1, 1000, num_videos)
    chosen = stratified(sizes, number, generator())
    assert chosen == stratified(sizes, number, generator()), "the same seed, the same videos"
    assert len(set(chosen)) == len(chosen) == min(number, num_videos)
    strata = np.array_split(np.sort(sizes), len(chosen))
    for place, stratum in zip(chosen, strata):
        assert stratum[0] <= sizes[place] <= stratum[-1]


def test_every_video_is_as_likely_to_be_chosen():
    counts = np.zeros(20)
    for seed in range(400):
        counts[list(stratified(range(20), 5, generator(seed)))] += 1
    assert counts.sum() == 2000 and counts.min() > 60 and counts.max() < 140


def test_no_sample_from_nothing():
    assert stratified([], 3, generator()) == ()


@pytest.mark.parametrize("num_videos", range(1, 40))
def test_sample_and_checks_fit_into_the_dataset(num_videos):
    measured, checked = sample_sizes(num_videos, 12)
    assert 1 <= measured <= 12 and 0 <= checked <= 6
    assert measured + checked <= num_videos
    assert checked > 0 or num_videos < 3


@pytest.mark.parametrize("budget", [0.5, 3.0, 13.0, 1000.0])
def test_thinning_keeps_to_the_budget(budget):
    costs = [0.3, 1.0, 2.0, 60.0]
    spent = [cost / every for cost, every in zip(costs, thinning(costs, budget))]
    assert sum(spent) <= budget + 1e-9
    assert budget < sum(costs) or spent == costs


# --- laws ---


def test_laws_of_exact_costs_are_exact():
    sizes = np.array([10.0, 40.0, 20.0, 90.0, 70.0])
    for kind, costs in (
        ("video", np.full(5, 3.0)),
        ("byte", 0.25 * sizes),
        ("both", 2.0 + 0.5 * sizes),
    ):
        assert choose_law(sizes, costs) == kind
        assert leave_one_out(kind, sizes, costs) == pytest.approx(np.zeros(5), abs=1e-9)
        everything = np.arange(1.0, 101.0)
        everything[:5] = sizes
        truth = {"video": 300.0, "byte": 0.25 * everything.sum()}.get(
            kind, 200.0 + 0.5 * everything.sum()
        )
        found = estimate(everything, range(5), costs, generator())
        assert (found.kind, found.total) == (kind, pytest.approx(truth))
        assert (found.low, found.high) == (pytest.approx(truth), pytest.approx(truth))
        assert found.left_out_error == pytest.approx(0, abs=1e-9)
        assert found.spread == pytest.approx(0, abs=1e-9)
        assert found.each.sum() == pytest.approx(found.total)


def test_no_part_of_a_law_is_negative():
    sizes = np.array([1.0, 2.0, 3.0])
    assert fit_law("both", sizes, np.array([3.0, 2.0, 1.0])) == fit_law("video", sizes, sizes)
    steep = fit_law("both", sizes, np.array([0.0, 1.0, 5.0]))
    assert (steep.per_video, steep.per_byte) == (0.0, 1.0)
    assert fit_law("both", np.ones(3), sizes).per_byte == 0.0
    assert fit_law("byte", np.zeros(2), np.ones(2)).per_byte == 0.0


def test_three_videos_are_too_few_to_choose_a_law():
    assert choose_law(np.array([1.0, 2.0, 3.0]), np.array([1.0, 2.0, 3.0])) == "video"


def test_one_video_gives_a_total_of_unknown_error():
    found = estimate(np.array([5.0, 5.0]), [1], np.array([2.0]), generator())
    assert found.total == 4.0
    assert all(map(math.isnan, (found.low, found.high, found.left_out_error, found.spread)))


def test_leaving_out_is_what_it_says():
    sizes, costs = np.array([1.0, 2.0, 4.0]), np.array([5.0, 3.0, 9.0])
    naive = [5 - 1 * (12 / 6), 3 - 2 * (14 / 5), 9 - 4 * (8 / 3)]
    assert leave_one_out("byte", sizes, costs) == pytest.approx(naive)


@pytest.mark.parametrize("kind", ["video", "byte", "both"])
def test_the_interval_covers_the_truth_about_as_often_as_it_says(kind):
    covered = 0
    for seed in range(150):
        random = generator(seed)
        sizes = random.lognormal(13, 0.7, 300)
        mean = {"video": 2.0, "byte": 4e-6 * sizes}.get(kind, 1.0 + 2e-6 * sizes)
        costs = mean * random.lognormal(0, 0.3, 300)
        sample = stratified(sizes, 12, random)
        found = estimate(sizes, sample, costs[list(sample)], random)
        covered += found.low <= costs.sum() <= found.high
    assert 0.83 <= covered / 150 <= 0.99


def test_an_estimate_is_the_same_for_the_same_seed():
    sizes, costs = generator(3).lognormal(13, 1, 30), generator(4).lognormal(0, 1, 8)
    first, second = (estimate(sizes, range(8), costs, generator(5)) for _ in range(2))
    assert (first.total, first.low, first.high) == (second.total, second.low, second.high)


def test_videos_that_fail_cost_nothing():
    costs = np.array([2.0, 2.0])
    found = estimate(np.ones(12), [0, 1], costs, generator(), failed=[5, 7], share=0.8)
    assert found.total == pytest.approx(2 * 2 + 8 * 2 * 0.8)


def test_the_interval_of_the_failures():
    assert failure_interval(0, 12)[0] == 0.0 and failure_interval(12, 12)[1] == 1.0
    low, high = failure_interval(3, 10)
    for end in (low, high):  # Wilson: the true share of which 0.3 is just 1.645 deviations away
        assert abs(0.3 - end) == pytest.approx(1.6449 * math.sqrt(end * (1 - end) / 10))


# --- workers ---


def naive_makespan(costs, num_workers):
    waiting, busy, now = list(costs), [0] * num_workers, 0
    while waiting or any(busy):
        for worker, left in enumerate(busy):
            if left == 0 and waiting:
                busy[worker] = waiting.pop(0)
        busy = [max(left - 1, 0) for left in busy]
        now += 1
    return now


@pytest.mark.parametrize("num_workers", [1, 2, 3, 8, 50])
def test_the_makespan_is_that_of_a_simulation(num_workers):
    for seed in range(20):
        costs = generator(seed).integers(1, 9, 30).tolist()
        assert makespan(costs, num_workers) == naive_makespan(costs, num_workers)
    assert makespan([], num_workers) == 0.0


def test_efficiency():
    assert efficiency(5, 1, 1.0) == 1.0
    assert [efficiency(n, 4, 0.7) for n in (1, 4, 400)] == pytest.approx([1.0, 0.7, 0.7])


def synthetic_survey(modality, num_videos=40, num_probes=8, failed=0):
    """A survey of videos of 1 s decoding and 3 s of one modality, 1000 bytes; a full machine has
    half the speed in the latter."""
    sources = tuple(Source(f"{n}.avi", Path(f"/{n}.avi"), 500) for n in range(num_videos))
    probes = tuple(Probe(n, 1.0, (3.0,), (1000.0,), 4.0, 0.0, 0.0, 1) for n in range(num_probes))
    checks = (Probe(num_probes, 2.0, (6.0,), (2000.0,), 8.0, 0.0, 0.0, 1),)
    failures = tuple(Failure(39 - n, f"{39 - n}.avi", "open: it is empty") for n in range(failed))
    process = Process(1.0, 0.5, 10**8)
    return Survey(
        sources, (modality,), num_probes + failed, probes, (1,), failures, process, (process,),
        Crowd(4, 1.0, (0.5,)), checks, 1, 60.0,
    )  # fmt: skip


def test_a_forecast_of_known_costs():
    survey = synthetic_survey(stored("rgb"))
    shards = [n // 5 for n in range(40)]
    outlook = forecast(survey, shards, (1, 4, 16), 4, generator())
    (row,) = outlook.rows
    assert (outlook.num_shards, outlook.failed, outlook.busy_share) == (8, 0.0, None)
    assert (row.name, row.decode_seconds, row.own_seconds) == ("rgb", 1.0, 3.0)
    assert row.seconds.total == pytest.approx(160.0)
    assert row.num_bytes.total == pytest.approx(40 * 1000 + 8 * 9000)
    assert row.efficiency == pytest.approx(4 / 7)  # 1 s + 3 s become 1 s + 6 s
    assert [s.seconds for s in row.schedules] == pytest.approx([160.5, 70.5, 35.5])
    assert [s.idle_share for s in row.schedules] == pytest.approx([0, 0, 0.5])
    assert row.schedules[1].bytes_per_second == pytest.approx(row.num_bytes.total / 70.5)
    assert row.core_seconds == pytest.approx(280.0)
    assert (row.check.seconds, row.check.num_bytes) == (-0.5, -0.5)


def test_failures_lower_a_forecast():
    survey = synthetic_survey(stored("rgb"), failed=2)
    outlook = forecast(survey, [0] * 40, (1,), 1, generator())
    assert outlook.failed == pytest.approx(2 + 30 * 0.2)
    assert outlook.rows[0].seconds.total == pytest.approx(8 * 4 + 30 * 4 * 0.8)


# --- text ---


def test_the_whole_text_of_a_forecast():
    survey = synthetic_survey(stored("rgb"), failed=2)
    outlook = forecast(survey, [n // 5 for n in range(40)], (1, 4, 16), 4, generator())
    assert plan_text.outlook_lines(survey, outlook, 4, 0.5) == [
        "one video, one worker  decode   make   both  memory",
        "rgb                     1.0 s  3.0 s  4.0 s  100 MB",
        "",
        "all videos  shards  error  1 worker  4 workers  16 workers  CPU time  error"
        "  price  a video",
        "rgb         104 kB   ±0 %   2.1 min     60.7 s      35.5 s   3.7 min   ±0 %"
        "  0.031  0.00078",
        "",
        "decode: to open a video, read the frames that are needed and resize them; make:",
        "  to compute its images and encode them; memory: of each worker",
        "CPU time: of all cores together while all are busy",
        "error: of the number left of it, a 90 % interval from 8 measured videos;",
        "  foretold by the number of videos",
        "each measured video foretold from the others: time +0 %, shards +0 % in sum;",
        "  time of a single one ±0 %",
        "measured error on 1 other video, extracted in full: time -50 %, shards -50 %",
        "4 workers at once, one on each core: each at 57 % of the speed of one alone,",
        "  measured",
        "more than 4 workers: taken to run on more machines like this one (4 cores),",
        "  reading and writing as fast as it does",
        "in these times, to start each worker: 500 ms",
        "16 workers: only 8 shards to share; a smaller --videos-per-shard makes more",
        "16 workers, rgb: 2.9 kB/s to write into --out",
        "2 of 10 tried videos failed: expect about 8 of 40 to (4 to 16); the numbers",
        "  above leave them out",
        "  39.avi: open: it is empty",
        "  38.avi: open: it is empty",
    ]


# --- the command ---


@pytest.fixture
def plan(program):
    def run(data, *options):
        return program("plan", "--dataset", "folder", "--data", data, *SMALL, *options)

    others = set(psutil.Process().children())
    yield run
    assert set(psutil.Process().children()) <= others, "no process is left behind"


def make_videos(data, number=9):
    for n in range(number):
        frames = moving_frames(8 + 2 * n, (36, 48), seed=n)
        write_clip(data / ("nod", "wave")[n % 2] / f"{n}.avi", frames)
    return data


def test_foretold_bytes_against_an_extraction(plan, program, tmp_path):
    data = make_videos(tmp_path / "data" / "gestures")
    before = sorted(tmp_path.rglob("*"))
    out = tmp_path / "plan.json"
    result = plan(data, *FAST, "--sample", 6, "--seconds", 2, "--workers", "2,1,2", "--json", out)
    assert result.exit_code == 0, result.output
    assert sorted(tmp_path.rglob("*")) == sorted([*before, out]), "nothing else is written"
    content = json.loads(out.read_text())
    assert (content["dataset"], content["videos"], content["missing_videos"]) == ("gestures", 9, 0)
    assert len(content["measured_videos"]) == 6 and content["failures"] == []
    assert set(content["checked_videos"]).isdisjoint(content["measured_videos"])
    assert len(content["checked_videos"]) == 3
    names = ["rgb", "rgbdiff", "flow-farneback", "together"]
    assert [row["name"] for row in content["modalities"]] == names
    shards = tmp_path / "shards"
    done = program(
        *("extract", "--dataset", "folder", "--data", data, "--out", shards, *SMALL, *FAST)
    )
    assert done.exit_code == 0
    for row in content["modalities"]:
        folder = shards / "gestures" / row["name"].replace("together", "")
        real = sum(file.stat().st_size for file in folder.rglob("*.h5"))
        found = row["num_bytes"]
        allowed = max((found["high"] - found["low"]) / 2, 0.02 * real)
        assert abs(found["total"] - real) <= allowed, row["name"]
        assert [schedule["num_workers"] for schedule in row["schedules"]] == [1, 2]
        assert row["seconds"]["total"] > 0 and row["peak_bytes"] > 50e6
    lines = result.stdout.splitlines()
    assert lines[:2] == ["gestures: 9 videos, 6 measured", ""]
    assert [line.split()[0] for line in lines[3:7]] == names
    assert max(map(len, lines)) <= 80
    assert any(
        line.startswith("measured error on 3 other videos, extracted in full: time ")
        for line in lines
    )
    assert result.stderr.splitlines()[:3] == [
        "measuring for about 2 s, longer where other programs are busy",
        "measuring 6 videos, one at a time",
        "measuring each by itself: rgb, rgbdiff, flow-farneback",
    ]
    assert result.stderr.splitlines()[-1] == "checking with 3 other videos, extracted in full"


def test_videos_that_fail_are_named_and_left_out(plan, tmp_path):
    data = make_videos(tmp_path / "data" / "gestures", 5)
    (data / "nod" / "empty.avi").write_bytes(b"")
    (data / "wave" / "text.avi").write_text("x" * 100_000)  # the largest
    result = plan(data, "--modality", "rgb", "--sample", 7, "--seconds", 1, "--workers", 1)
    assert result.exit_code == 0, result.output
    assert result.stdout.startswith("gestures: 7 videos, 4 measured\n")
    assert result.stdout.endswith(
        "2 of 7 tried videos failed; the numbers above leave them out\n"
        "  wave/text.avi: open: not a video that FFmpeg can open, or it has no video\n"
        "  stream\n"
        "  nod/empty.avi: open: the file is empty; download or copy it again\n"
    )


def test_nothing_that_can_be_measured(plan, program, tmp_path):
    data = tmp_path / "data" / "bad"
    for name in ("a/1.avi", "b/2.avi"):
        (data / name).parent.mkdir(parents=True)
        (data / name).write_bytes(b"")
    result = plan(data, "--modality", "rgb")
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == (
        "measuring for about 60 s, longer where other programs are busy\n"
        "measuring 2 videos, one at a time\n"
        "error: none of 2 sampled videos can be extracted; a/1.avi: open: the file is empty; "
        "download or copy it again\n"
    )
    (tmp_path / "list.txt").write_text("x.avi 0\ny.avi 1\n")
    where = ("--dataset", "list", "--data", data, "--list", tmp_path / "list.txt")
    result = program("plan", *where, "--modality", "rgb")
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == (
        f"error: {data}: none of 2 videos is there, such as x.avi; check --data\n"
    )


def test_videos_that_are_not_there_are_counted(program, tmp_path):
    data = make_videos(tmp_path / "videos", 2)
    (tmp_path / "list.txt").write_text("nod/0.avi 0\nwave/1.avi 1\nwave/gone.avi 1\n")
    where = ("--dataset", "list", "--data", data, "--list", tmp_path / "list.txt")
    result = program("plan", *where, *SMALL, "--modality", "rgb", "--seconds", 1, "--workers", 1)
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert re.fullmatch(r".+: 3 videos, 2 measured", lines[0])
    assert lines[1] == "1 of them are not there; the numbers below leave them out"
    assert "no other video is left to check the estimate with" in lines


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--sample", 0), "--sample must be > 0 and finite, got 0"),
        (("--seconds", "inf"), "--seconds must be > 0 and finite, got inf"),
        (
            ("--price-per-core-hour", -1),
            "--price-per-core-hour must be 0 or more and finite, got -1.0",
        ),
        (("--videos-per-shard", 0), "--videos-per-shard must be > 0, got 0"),
        (
            ("--flow-parameter", "tau=1"),
            "--flow-parameter needs a single --flow, got tvl1, farneback, dis",
        ),
    ],
)
def test_numbers_out_of_range(plan, tmp_path, options, message):
    result = plan(tmp_path, *options)
    assert (result.exit_code, result.stdout, result.stderr) == (1, "", f"error: {message}\n")


def test_numbers_of_workers(plan, tmp_path):
    result = plan(tmp_path, "--workers", "1,0")
    assert result.exit_code == 2
    assert "whole numbers above 0 such as 1,8,64 expected, got '1,0'" in " ".join(
        result.stderr.split()
    )
