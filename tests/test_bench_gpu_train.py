"""The benchmark of training on a GPU, from end to end on a CPU: that it runs, not what it says."""

import json

import pytest
import torch

from benchmarks import device_profile
from benchmarks.bench_gpu_train import main
from benchmarks.device_profile import idleness


def test_it_measures_everything_that_was_asked_for(tmp_path, capsys):
    words = ["--device", "cpu", "--small", "--workers", "1", "--seconds", "0"]
    main([*words, "--out", str(tmp_path)])
    found = json.loads((tmp_path / "gpu_train.json").read_text())
    assert found["gpu"] == {"device": "cpu"} and found["small"] is True
    assert [row["modality"] for row in found["synthetic"]] == ["rgb", "flow"]
    ways = {
        (row["modality"], row["codec"], row["decode_on"], row["resize_on"]) for row in found["fed"]
    }
    both, neither, half = ("device", "device"), ("workers", "workers"), ("workers", "device")
    assert ways == {
        (modality, codec, *way)
        for modality in ("rgb", "flow")
        for codec, chosen in (("jpeg", (both, neither, half)), ("raw", (neither, half)))
        for way in chosen
    }
    for row in found["fed"]:
        assert row["waiting"] + row["copying"] + row["computing"] == pytest.approx(1)
        assert row["copying"] > 0 and row["computing"] > 0
        fastest = next(r for r in found["synthetic"] if r["modality"] == row["modality"])
        ratio = row["snippets_per_second"] / fastest["snippets_per_second"]
        assert row["fed_over_synthetic"] == pytest.approx(ratio)
    assert len(found["profile"]) == 12
    for profile in found["profile"].values():
        assert "aten::convolution_backward" in [one["name"] for one in profile["operators"]]
        assert 0 <= profile["idle_share"] < 1
    assert found["left_out"] == [
        "rgb, fp32",
        "rgb, bf16",
        "rgb, bf16, channels last, any algorithm",
        "rgb, bf16, channels last, compiled",
    ]
    printed = capsys.readouterr().out
    assert "rgb jpeg     device   device" in printed
    assert "profile, flow, synthetic: idle" in printed


def test_a_gpu_that_lets_nobody_watch_is_no_error(monkeypatch):
    watched = torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU])
    monkeypatch.setattr(device_profile, "profile", lambda activities: watched)
    found = device_profile.profiled(lambda: torch.ones(3).sum(), torch.device("cuda"))
    assert [one["name"] for one in found["operators"]]
    assert found["kernels"] == found["gaps"] == []
    assert found["span_ms"] == 0


def test_gaps_are_where_nothing_goes_on():
    spans = [("late", 10, 12), ("long", 0, 6), ("within", 1, 2), ("next", 7, 8)]
    found = idleness(spans)
    assert found["span_ms"] == 0.012
    assert found["idle_share"] == pytest.approx(3 / 12)
    assert found["gaps"] == [
        {"ms": 0.002, "after": "next", "before": "late"},
        {"ms": 0.001, "after": "long", "before": "next"},
    ]
