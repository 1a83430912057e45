"""What tsn-train report gathers, and what it says where something is missing."""

import base64
import json
import shlex
import shutil
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import click
import cv2
import numpy as np
import pytest
from conftest import stored
from report_helpers import HOSTILE, config_of, epoch_rows, scores_of, write_run, write_runs
from train_helpers import failure, random_videos, run_program, write_shards

from train import bootstrap
from train.commands.fit import fit
from train.commands.fit_options import run_settings
from train.fuse import align, fuse
from train.metrics import predictions, summarize
from train.mistakes import mistakes
from train.report.class_order import clustered
from train.report.classes import class_columns
from train.report.content import gather
from train.report.curves import charts, tick_values
from train.report.page import data_text, render
from train.report.repeat import fit_command
from train.scores import read_scores, write_scores
from tsn_core.location import location
from tsn_core.picture import unit_picture
from tsn_core.shard_set import ShardSet

CLASSES = ("run", "walk", "jump")


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr("train.bootstrap.NUM_RESAMPLES", 200)


@pytest.fixture
def runs(tmp_path, monkeypatch):
    """An rgb and a flow run of 40 videos with rgb shards, seen from their folder."""
    monkeypatch.chdir(tmp_path)
    write_runs(tmp_path, CLASSES, 40)
    return [Path("runs/rgb"), Path("runs/flow")]


class Page(HTMLParser):
    """The texts of a page, and the content of its data element."""

    def __init__(self, html):
        super().__init__()
        self.texts, self.raw, self._inside = [], {}, None
        self.sources, self.attributes = [], set()
        self.feed(html)

    def handle_starttag(self, tag, attributes):
        if tag in ("script", "style"):
            self._inside = dict(attributes).get("id") or tag

        self.attributes |= {name for name, _ in attributes}
        self.sources += [value for name, value in attributes if name == "src"]

    def handle_endtag(self, tag):
        if tag in ("script", "style"):
            self._inside = None

    def handle_data(self, data):
        if self._inside:
            self.raw[self._inside] = self.raw.get(self._inside, "") + data
        elif data.strip():
            self.texts.append(data.strip())


# --- the words ---


def test_one_mistake_and_few_classes_have_words_of_their_own(runs):
    content = gather(runs)
    page = Page(render({**content, "mistakes": content["mistakes"][:1], "num_mistakes": 1}))
    text = " ".join(" ".join(page.texts).split())
    assert "The only mistake of fusion . The pictures are from the middle" in text
    assert "Top-5 100.0% always 100%, of 3 classes" in text
    assert "among the five largest scores" not in text


# --- the numbers ---


def test_the_numbers_are_those_of_the_other_commands(runs):
    content = gather(runs)
    parts = [read_scores(run) for run in runs]
    fused = fuse(align(parts), None)
    assert content["data"]["tests"] == ["rgb", "flow-farneback", "fusion"]
    for row, test in zip(content["accuracies"], [*parts, fused]):
        expected = summarize(test.video_scores, test.labels)
        assert {name: row[name] for name in expected} == expected
    assert [row["weight"] for row in content["accuracies"]] == [1.0, 1.5, None]
    videos = content["data"]["videos"]
    for columns, test in zip(videos["tests"], [*parts, fused]):
        assert columns["predicted"] == predictions(test.video_scores, test.labels).tolist()
    assert videos["names"] == fused.names.tolist()
    worst = mistakes(fused)[:24]
    assert [card["video"] for card in content["mistakes"]] == [row["video"] for row in worst]
    assert content["num_mistakes"] == len(mistakes(fused))
    assert content["remarks"] == []


def test_the_columns_of_classes_match_a_naive_count(runs):
    parts = {"rgb": read_scores(runs[0]), "flow": read_scores(runs[1])}
    tests = {**parts, "fusion": fuse(list(parts.values()), None)}
    columns = class_columns(tests)
    for label in range(3):
        of_class = [v for v, own in enumerate(tests["rgb"].labels) if own == label]
        assert columns["videos"][label] == len(of_class)
        accuracies = []
        for column, test in zip(columns["tests"], tests.values()):
            guesses = test.video_scores.argmax(axis=1)
            right = sum(int(guesses[v] == label) for v in of_class)
            accuracies.append(right / len(of_class))
            assert column["accuracy"][label] == pytest.approx(accuracies[-1], abs=1e-4)
            assert column["low"][label] <= column["accuracy"][label] <= column["high"][label]
        flow = columns["gains"][0]
        assert flow["name"] == "flow over rgb"
        assert flow["value"][label] == pytest.approx(accuracies[1] - accuracies[0], abs=1e-4)
        assert flow["low"][label] <= flow["value"][label] <= flow["high"][label]


def test_intervals_of_classes_match_resampling_their_videos():
    generator = np.random.default_rng(5)
    labels = np.repeat([0, 1, 3], [30, 8, 50])
    first, second = generator.random(88) < 0.8, generator.random(88) < 0.5
    found = bootstrap.class_differences(labels, first, second, 4)
    assert np.isnan(found[2]).all()
    for label in (0, 1, 3):
        videos = np.flatnonzero(labels == label)
        draws = generator.choice(videos, (4000, len(videos)))
        values = first[draws].mean(axis=1) - second[draws].mean(axis=1)
        expected = np.quantile(values, [0.025, 0.975])
        np.testing.assert_allclose(found[label], expected, atol=1.01 / len(videos))


def test_few_videos_have_no_interval_of_gain():
    labels = np.array([0] * 4 + [1] * 5)
    parts = {n: scores_of(n, labels, ("a", "b"), 1.0, s) for n, s in (("rgb", 1), ("flow", 2))}
    gains = class_columns({**parts, "fusion": fuse(list(parts.values()), None)})["gains"]
    assert gains[0]["low"][0] is None
    assert gains[0]["low"][1] is not None


def test_confused_classes_stand_side_by_side():
    """Pairs that are confused with each other only, spread over the class ids."""
    generator = np.random.default_rng(0)
    order = generator.permutation(12)
    confusion = np.diag(np.full(12, 20))
    for a, b in order.reshape(6, 2):
        confusion[a, b] = confusion[b, a] = 5
    found = clustered(confusion)
    assert sorted(found) == list(range(12))
    for a, b in order.reshape(6, 2):
        assert abs(found.index(a) - found.index(b)) == 1
    assert clustered(np.diag([3, 0, 2])) == [0, 1, 2]


def test_charts_lie_where_their_numbers_say():
    loss, accuracy, rate, time = charts(epoch_rows(12), "val")
    assert [series.name for series in loss.series] == ["train", "val"]
    assert [series.name for series in time.series] == ["waiting", "computing"]
    assert [series.values[3] for series in time.series] == ["20", "70"]
    for chart in (loss, accuracy, rate, time):
        for series in chart.series:
            points = [tuple(map(float, pair.split(","))) for pair in series.points.split()]
            assert [x for x, _ in points] == list(chart.xs)
            assert all(chart.top <= y <= chart.bottom for _, y in points)
    (top, text), (bottom, _) = accuracy.y_ticks[-1], accuracy.y_ticks[0]
    assert (text, top, bottom) == ("100", accuracy.top, accuracy.bottom)
    y = float(accuracy.series[0].points.split()[6].split(",")[1])
    assert y == pytest.approx((top + bottom) / 2, abs=0.1)  # half are right then
    assert [text for _, text in rate.y_ticks] == ["1e-3", "0.01", "0.1"]
    assert charts([], "val") == []
    broken = [{"epoch": 1, "train_loss": float("nan"), "learning_rate": 0.0}]
    assert charts(broken, "val") == []
    assert (
        len(charts([{**row, "epoch": n} for n, row in enumerate(epoch_rows(5000))], "val")[0].xs)
        <= 600
    )
    assert tick_values(0.0, 0.3) == [0.0, 0.1, 0.2, 0.3]


# --- the folders ---


def test_a_fused_folder_finds_its_runs(runs):
    run_program("fuse", *runs[::-1], "--weights", 2, 1, "--out", "runs/fused")
    result = run_program("report", "runs/fused")
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout.startswith("runs/fused/report.html: 0.")
    content = gather([Path("runs/fused")])
    assert content["data"]["tests"] == ["rgb", "flow-farneback", "fusion"]
    assert [row["weight"] for row in content["accuracies"]] == [1.0, 2.0, None]
    assert content["fusion_how"] == "given"
    assert content["fusion_command"] == (
        "tsn-train fuse runs/rgb runs/flow --weights 1 2 --out runs/fused"
    )
    assert gather([Path("runs/fused"), *runs])["accuracies"] == content["accuracies"]
    Path("runs").rename("moved")
    assert gather([Path("moved/fused")])["data"]["tests"] == content["data"]["tests"]
    Path("moved/rgb/scores.npz").unlink()
    content = gather([Path("moved/fused")])
    assert content["data"]["tests"] == ["flow-farneback", "fusion"]
    assert content["remarks"][0] == (
        "moved/fused: its inputs are not all found; give their folders, too, to see what each "
        "modality does"
    )


def test_a_fusion_of_other_scores_is_remarked(runs):
    run_program("fuse", *runs, "--out", "runs/fused")
    scores = read_scores(runs[0])
    write_scores(scores_of("rgb", scores.labels, CLASSES, 1.0, 9), runs[0] / "scores.npz")
    assert gather([Path("runs/fused"), *runs])["remarks"] == [
        "runs/fused: was made of other scores than the runs have now; fuse again"
    ]


def test_inputs_of_a_fusion_are_known_by_their_folders(runs):
    shutil.copytree(runs[0], "runs/again")
    scores = read_scores(runs[0])
    write_scores(scores_of("rgb", scores.labels, CLASSES, 1.0, 9), Path("runs/again/scores.npz"))
    given = (Path.cwd() / "runs/again", runs[0], runs[1])  # another order, and other spellings
    run_program("fuse", *given, "--weights", 1, 2, 3, "--out", "runs/fused")
    content = gather([Path("runs/fused"), runs[0], Path("runs/again"), runs[1]])
    assert content["remarks"] == []
    assert [(row["name"], row["weight"]) for row in content["accuracies"]] == [
        ("rgb", 2.0),
        ("rgb (runs/again)", 1.0),
        ("flow-farneback", 3.0),
        ("fusion", None),
    ]
    content = gather([Path("runs/fused"), Path("runs/again")])
    assert content["accuracies"][0]["weight"] == 1.0
    assert content["remarks"] == []


def test_one_run_alone(runs):
    content = gather(runs[:1])
    assert content["data"]["tests"] == ["rgb"]
    assert content["gain"] is content["fusion_command"] is None
    assert "Gain over" not in render(content)


def test_a_run_that_was_not_tested(runs):
    (runs[0] / "scores.npz").unlink()
    result = run_program("report", runs[0])
    remark = "runs/rgb: not tested on test videos; run tsn-train evaluate runs/rgb\n"
    assert (result.exit_code, result.stderr) == (0, remark)
    texts = Page((runs[0] / "report.html").read_text()).texts
    assert "Curves of the training" in texts
    assert "Confusion matrix" not in texts
    result = run_program("report", runs[1], "--subset", "val")
    assert result.stderr == (
        "runs/flow: not tested on val videos; run tsn-train evaluate runs/flow --subset val\n"
    )


def test_two_runs_of_one_modality(runs):
    scores = read_scores(runs[0])
    other = write_run(
        Path("runs/rgb2"), scores, config_of(Path("shards"), stored("rgb"), 3), epochs=1
    )
    assert gather([runs[0], other])["data"]["tests"] == ["rgb", "rgb (runs/rgb2)", "fusion"]


def test_messages(runs):
    assert failure("report", "gone") == (
        "error: gone: no such folder; give the folders of runs, or of a fusion\n"
    )
    assert failure("report", "shards") == (
        "error: shards: no run there; give the folder that tsn-train fit, evaluate, head or fuse "
        "made\n"
    )
    assert failure("report", "runs/rgb", "runs/../runs/rgb") == (
        "error: a run is given twice; give every run once\n"
    )
    for out in ("a", "b"):
        run_program("fuse", *runs, "--out", out)
    assert failure("report", "a", "b") == (
        "error: a, b: a page shows one fusion, got 2; make a page for each\n"
    )
    assert failure("report", "a", "--subset", "val") == (
        "error: a: a fusion, which is of test videos; give its runs for --subset val\n"
    )
    assert failure("report", "a", "--mistakes", 501) == (
        "error: --mistakes must be 0 to 500, got 501\n"
    )
    assert failure("report", "a", "--out", "runs") == (
        "error: --out runs: is a folder; name a file such as runs/report.html\n"
    )
    Path("blocked").write_text("")
    assert failure("report", "a", "--out", "blocked/x.html").startswith(
        "error: blocked/x.html: cannot be written: "
    )


def test_damaged_files_cost_only_themselves(runs):
    for name in ("metrics.csv", "config.json"):
        (runs[0] / name).write_text("{]\nepoch,\x00\n")
    (runs[0] / "metrics.json").write_text("[" * 100_000)
    shards = Path("shards")
    (shards / "report.json").write_text("7")
    (shards / "failures.jsonl").write_text('{"name": "a.avi"}\n{]\n[]\n\n{"name": 7}\n')
    content = gather(runs)
    root = Path.cwd() / "shards"
    assert content["remarks"] == [
        "runs/rgb/config.json: damaged, or not readable; the page goes without it",
        "runs/rgb/metrics.json: damaged, or not readable; the page goes without it",
        "runs/rgb/metrics.csv: damaged; the page goes without its curves",
        f"{root}/failures.jsonl: damaged lines are left out: 2, 3",
        f"{root}/report.json: damaged, or not readable; the page goes without it",
    ]
    assert [row[0] for row in content["data"]["failures"]] == ["a.avi", "7"]
    assert "accuracy-title" in render(content)


@pytest.mark.parametrize("epoch", ["nan", "inf"])
def test_epochs_that_are_no_numbers(runs, epoch):
    (runs[0] / "metrics.csv").write_text(f"epoch,train_loss\n1,2\n{epoch},1\n")
    remark = "runs/rgb/metrics.csv: damaged; the page goes without its curves"
    assert remark in gather(runs)["remarks"]


def test_settings_of_any_shape_make_a_page(runs):
    hostile = {"shards": 7, "model": [1, {"a": None}], HOSTILE[0]: {HOSTILE[1]: [HOSTILE[2]]}}
    (runs[0] / "config.json").write_text(json.dumps(hostile))
    (runs[0] / "metrics.json").write_text('{"missing": 3, "split": {}, "trained_on": null}')
    html = render(gather(runs))
    assert HOSTILE[0] not in html
    assert f"{HOSTILE[0]}: {HOSTILE[1]}" in Page(html).texts


# --- pictures ---


def picture_of(source):
    data = base64.b64decode(source.removeprefix("data:image/jpeg;base64,"))
    return cv2.cvtColor(cv2.imdecode(np.frombuffer(data, np.uint8), 1), cv2.COLOR_BGR2RGB)


def test_pictures_are_of_the_middle_of_the_videos(runs):
    card = gather(runs, num_mistakes=2)["mistakes"][0]
    shards = ShardSet("shards/rgb")
    units = shards.read(shards.number(card["video"]), [1])  # of three snippets
    expected = cv2.resize(units[0, 0], (192, 144), interpolation=cv2.INTER_AREA)
    picture = picture_of(card["picture"].source)
    assert picture.shape == (144, 192, 3)
    difference = np.abs(picture.astype(int) - expected).mean()
    assert difference < 40  # noise in a JPEG; another snippet of it differs by 85
    other = cv2.resize(
        shards.read(shards.number(card["video"]), [0])[0, 0],
        (192, 144),
        interpolation=cv2.INTER_AREA,
    )
    assert np.abs(picture.astype(int) - other).mean() > 2 * difference


def test_without_rgb_shards_flow_is_shown_in_colours(tmp_path):
    flow = stored("flow")
    labels = np.zeros(6, int)
    scores = scores_of(flow.folder, labels, CLASSES, -3.0, 1)
    noise = random_videos(flow, [1] * 6)
    videos = [(name, 0, v[2], v[3]) for name, v in zip(scores.names.tolist(), noise)]
    write_shards(tmp_path / "shards" / flow.folder, flow, videos, class_names=CLASSES)
    run = write_run(tmp_path / "run", scores, config_of(tmp_path / "shards", flow, 3))
    content = gather([run], num_mistakes=1)
    card = content["mistakes"][0]
    assert card["picture"].folder == flow.folder
    shards = ShardSet(tmp_path / "shards" / flow.folder)
    units = shards.read(shards.number(card["video"]), [0])[0]
    expected = unit_picture(units[2], flow)  # the middle one of five
    expected = cv2.resize(expected, (192, 144), interpolation=cv2.INTER_AREA)
    assert np.abs(picture_of(card["picture"].source).astype(int) - expected).mean() < 40
    assert content["remarks"] == []


def test_without_shards_there_are_no_pictures_but_a_remark(tmp_path):
    runs = write_runs(tmp_path, CLASSES, 40, with_shards=False)
    content = gather(runs)
    shards = tmp_path / "shards"
    number = len(content["mistakes"])
    assert content["remarks"] == [
        f"{shards}: the shards are not there any more: no pictures, no failures",
        f"{number} mistakes without a picture: {shards}/rgb/index.json: not there; extract that "
        "modality, or let an unfinished extraction finish",
    ]
    texts = Page(render(content)).texts
    assert texts.count("no picture") == number
    assert "Nothing is known of the extraction: the shards are not there." in texts
    assert content["origins"][0]["state"] == "0000000000000000 in training; not readable now"


def test_a_test_without_settings(runs):
    """As tsn-train head leaves it."""
    for name in ("config.json", "metrics.csv"):
        (runs[0] / name).unlink()
    (runs[0] / "metrics.json").write_text('{"features": ["f.h5"], "head": {"lr": 0.1}, "split": 2}')
    content = gather(runs[:1])
    number = len(content["mistakes"])
    assert content["remarks"] == [
        f"{number} mistakes without a picture: no run names shards that are there"
    ]
    rows = [("tested split", ["2"], False), ("tested features", ["f.h5"], False)]
    assert content["settings"] == [*rows, ("tested head: lr", ["0.1"], False)]
    assert "Provenance" in Page(render(content)).texts


def test_scores_of_uneven_size_are_remarked(runs):
    scores = read_scores(runs[0])
    scaled = {"scores": 100 * scores.scores, "video_scores": 100 * scores.video_scores}
    large = replace(scores, **scaled)
    write_scores(large, runs[0] / "scores.npz")
    (remark,) = gather(runs)["remarks"]
    assert remark.startswith("fusion by the usual weights: the scores of rgb are spread ")
    assert remark.endswith("; choose --weights accordingly, or --search with tsn-train fuse")


def test_no_pictures_are_asked_for(runs):
    content = gather(runs, num_mistakes=0)
    assert content["mistakes"] == content["remarks"] == []
    texts = Page(render(content)).texts
    assert f"{content['num_mistakes']} mistakes, none shown; see the table of videos." in texts


# --- where it comes from ---


@pytest.mark.parametrize(
    "options",
    [
        "--modality rgb",
        "--modality flow --flow dis --preset hmdb51 --split 2 --seed 7 --weights none",
        "--modality flow --flow tvl1 --preset small --no-flip --no-flip-class 'wave left'",
        "--modality rgbdiff --optimizer adamw --schedule cosine --epochs 12 --lr 3e-05 --ema 0.999",
        "--modality rgb --crop-scales 1,0.5 --crop-positions 13 --lr-steps 3,4,5 --epochs 6",
        "--modality rgb --full-bn --channels-last --precision bf16 --compile --val-fraction 0.1",
        "--modality rgb --consensus topk --top 3 --accumulate 4 --patience 2 --weights 'a b.pt'",
    ],
)
def test_the_command_of_a_run_leads_to_the_same_settings(options):
    def config(words):
        context = fit.make_context("fit", words)
        with context:
            settings = run_settings(context)
        folder = settings.modality + (f"-{settings.flow}" if settings.flow else "")
        model = {"modality": settings.modality, **vars(settings.network)}
        return settings.to_config(
            modality_folder=folder, shards_digest="0", model=model, val_subset="val"
        )

    first = config([*shlex.split(options), "--shards", "my shards", "--out", "x"])
    command = fit_command(json.loads(json.dumps(first)), Path("runs/my run"))
    words = shlex.split(command)
    assert words[:2] == ["tsn-train", "fit"]
    assert words[-2:] == ["--out", "runs/my run"]
    assert config(words[2:]) == first
    assert isinstance(fit, click.Command)


def test_commands_are_left_out_where_settings_are_missing():
    assert fit_command({}, "x") is None
    assert fit_command({"model": 7, "optimizer": {}}, "x") is None


def test_provenance(runs):
    content = gather(runs)
    rgb, flow = content["origins"]
    digest = ShardSet("shards/rgb").digest
    assert rgb["state"] == f"0000000000000000 in training, {digest} now: extracted again since"
    assert rgb["shards"].versions.keys() == {"package", "opencv"}
    assert rgb["commands"][1] == (
        "tsn-train evaluate runs/rgb --split 1 --subset test --checkpoint last --num-snippets 25 "
        "--crops 10"
    )
    assert flow["shards"].digest is None
    table = {row[0]: row[1:] for row in content["versions"]}
    assert table["opencv"][0] == ", ".join(sorted({cv2.__version__, HOSTILE[0]}))
    assert table["av"] == ["17.0.0", "–"]
    assert table["numpy"] == ["–", np.__version__]
    settings = {name: (values, differ) for name, values, differ in content["settings"]}
    assert settings["seed"] == (["1", "2"], True)
    assert settings["split"] == (["1", "1"], False)
    assert settings["flip"] == (["yes", "yes"], False)
    assert settings["crop scales"][0][0] == "1, 0.875, 0.75, 0.66"


# --- the page ---


def test_data_cannot_end_its_element():
    hostile = [*HOSTILE, "\u2028\u2029", "\ud800", "<!--", "a\nb"]
    text = data_text({"names": hostile})
    assert text.isascii()
    assert not set("<>&") & set(text)
    spelled = json.loads(text)["names"]
    assert spelled[0] == HOSTILE[0]
    assert spelled[-4:] == ["\\u2028\\u2029", "\\ud800", "<!--", "a\\nb"]


def test_the_page_is_whole_and_holds_its_data(runs):
    run_program("report", *runs, "--out", "x/page.html")
    html = Path("x/page.html").read_text()
    assert sorted(path.name for path in Path("x").iterdir()) == ["page.html"]
    page = Page(html)
    data = json.loads(page.raw["data"])
    assert data == json.loads(json.dumps(gather(runs)["data"]))
    assert {source.partition(",")[0] for source in page.sources} == {"data:image/jpeg;base64"}
    assert "://" not in html
    assert "style" not in page.attributes  # which the policy would stop


def test_a_number_that_is_none_is_an_error(runs):
    content = gather(runs)
    content["data"]["videos"]["labels"][0] = float("nan")
    with pytest.raises(ValueError, match=r"^a report cannot hold .*; evaluate the runs again$"):
        render(content)


def test_remote_shards_are_left_alone_where_they_cannot_be_reached(runs):
    config = config_of(Path("x"), stored("rgb"), 3)
    (runs[0] / "config.json").write_text(json.dumps({**config, "shards": "nowhere://bucket/x"}))
    content = gather(runs[:1])
    assert content["mistakes"]
    with pytest.raises(ValueError) as caught:
        location("nowhere://bucket/x")
    assert content["remarks"][0] == f"nowhere://bucket/x: {caught.value}"
