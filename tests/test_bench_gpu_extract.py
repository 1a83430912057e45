"""The measurement of extraction on a GPU, in its small form on a CPU."""

import json

import pytest

from benchmarks import bench_gpu_extract
from benchmarks.bench_gpu_extract import SMALL, Bench, measure, table
from preprocess import flow_pool
from preprocess.flow_pool import has_flow_processes


@pytest.fixture
def bench(tmp_path, monkeypatch):
    monkeypatch.setattr(flow_pool, "FLOW_MODULE", "fake_flow_process")
    return Bench(SMALL, tmp_path, None)


@pytest.mark.skipif(not has_flow_processes(), reason="memfd_create")
def test_every_way_is_measured(bench):
    rows = list(measure(bench, "cpu", 0, 2))
    assert [(row["backend"], row["jobs"]) for row in rows] == [
        ("torch", 1),
        ("torch", 2),
        ("rgb", 2),
        ("numba", 2),
    ]
    for row in rows:
        assert row["videos"] == 4 and row["videos_per_second"] > 0 and row["seconds"] > 0
        assert row["images"] == (4 if row["backend"] == "rgb" else 4 * 5)
        assert (row["flow"] is not None) == (row["backend"] == "torch")
    assert [row["flow"]["pairs"] for row in rows[:2]] == [20, 20]
    assert rows[0]["text"].startswith("flow: 20 pairs, ")
    lines = table(rows).splitlines()
    assert len(lines) == 5 and lines[0].endswith("bottleneck")
    assert lines[1].split()[:3] == ["torch", "cpu", "1"]
    assert lines[1].split()[-1] in ("flow", "decoding", "neither")


def test_what_was_measured_before_something_failed_is_kept(tmp_path, monkeypatch, capsys):
    def some(bench, *_):
        yield {"backend": "torch", "device": "cuda:0", "jobs": 1, "flow": None, "text": None,
               "videos_per_second": 1.0, "images_per_second": 25.0}  # fmt: skip
        raise SystemExit("numba: nothing compiles it")

    monkeypatch.setattr(bench_gpu_extract, "measure", some)
    with pytest.raises(SystemExit, match=r"^gpu_extract: numba: nothing compiles it$"):
        bench_gpu_extract.main(["--device", "cpu", "--small", "--out", str(tmp_path)])
    found = json.loads((tmp_path / "gpu_extract.json").read_text())
    assert found["failed"] == "numba: nothing compiles it"
    assert [row["device"] for row in found["rows"]] == ["cuda:0"]


def test_several_gpus_are_measured_one_after_the_other(bench, monkeypatch):
    asked = []
    monkeypatch.setattr(bench, "run", lambda *words: asked.append(words) or {})
    assert len(list(measure(bench, "cuda", 3, 16))) == 2 + 2 + 2
    assert asked == [
        ("torch", "cuda:0", 1, 1),
        ("torch", "cuda:0", 1),
        ("torch", "cuda:0", 2),
        ("torch", "cuda:0,cuda:1", 2),
        ("torch", "cuda:0,cuda:1,cuda:2", 2),
        ("rgb", "cpu", 1, 1),
        ("rgb", "cpu", 16),
        ("numba", "cpu", 1, 1),
        ("numba", "cpu", 16),
    ]


def test_the_rate_leaves_the_start_out(tmp_path):
    log = tmp_path / "log.jsonl"
    seconds = (10, 12, 13, 14, 15, 16)
    log.write_text(
        "".join(
            json.dumps({"time": f"2026-01-01T00:00:{second}.000Z", "event": "video"}) + "\n"
            for second in seconds
        )
        + json.dumps({"time": "2026-01-01T00:00:59.000Z", "event": "run-end"})
    )
    assert bench_gpu_extract._steady_rate(log, 1) == pytest.approx(5 / 6)
    assert bench_gpu_extract._steady_rate(log, 2) == pytest.approx(4 / 4)
