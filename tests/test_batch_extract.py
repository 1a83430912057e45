"""Extraction whose flow is computed many pairs at a time, by processes of their own."""

import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import psutil
import pytest
from conftest import moving_frames, stored, tree_bytes, write_clip
from fake_flow_process import FakeFlow
from rich.console import Console

from preprocess import devices, flow_pool, flow_service, isolation
from preprocess.batch_flow import TORCH_BACKEND
from preprocess.devices import Device, find_devices
from preprocess.executor import make_executor
from preprocess.extract import extract_dataset
from preprocess.flow import flow_function, flow_parameters
from preprocess.flow_pool import flow_process, lent_device
from preprocess.flow_report import FlowTally
from preprocess.flow_usage import FlowUsage
from preprocess.guard import guarding
from preprocess.isolation import end_processes
from preprocess.job import JobReport, VideoReport
from preprocess.limits import Limits
from preprocess.task import InProcess, Task
from preprocess.units import Frame
from preprocess.video import resize
from preprocess.work import Options
from tsn_core.errors import DeviceError, InputError, MissingDependencyError
from tsn_core.manifest import Manifest, Record
from tsn_core.quantization import quantize_flow
from tsn_core.sampling import SnippetPlan
from tsn_core.shard_set import ShardSet

linux = pytest.mark.skipif(sys.platform != "linux", reason="memfd_create")
PARAMETERS = {"bound": 20.0, **flow_parameters("tvl1", backend=TORCH_BACKEND)}
FLOW = stored("flow", algorithm="tvl1", parameters=PARAMETERS)
WARPED = stored("warpedflow", algorithm="tvl1", parameters=PARAMETERS)
SPARSE = SnippetPlan(snippets=3)


@pytest.fixture(autouse=True)
def fake(monkeypatch):
    """Compute fake flow here and in flow processes; leave no process behind."""
    monkeypatch.setattr(flow_pool, "FLOW_MODULE", "fake_flow_process")
    monkeypatch.setattr(flow_service, "make_flow", lambda method, device: FakeFlow())
    flow_service._direct.cache_clear()
    others = set(psutil.Process().children())
    yield lambda **how: monkeypatch.setenv("FAKE_FLOW", json.dumps(how))
    flow_service._direct.cache_clear()
    end_processes()
    assert set(psutil.Process().children()) <= others, "no process is left behind"


def make(folder, *names, num_frames=15, size=(48, 64)):
    for seed, name in enumerate(names):
        write_clip(folder / f"{name}.avi", moving_frames(num_frames + seed, size, seed=seed))
    return [f"{name}.avi" for name in names]


def extract(data, out, names, jobs=2, plan=SPARSE, modalities=(FLOW,), **options):
    manifest = Manifest("d", ("a",), tuple(Record(name, 0) for name in names))
    return extract_dataset(
        manifest,
        data,
        out,
        modalities=modalities,
        plan=plan,
        videos_per_shard=2,
        executor=make_executor("local", num_workers=jobs, stop=end_processes),
        console=Console(quiet=True),
        options=Options(limits=options.pop("limits", Limits(stall_seconds=60)), **options),
    )


def reasons(summary):
    return {
        name: (line["stage"], line["reason"]) for name, line in sorted(summary.failures.items())
    }


# --- the same bytes, whoever computes ---


@linux
@pytest.mark.parametrize("plan", [SPARSE, SnippetPlan(dense=True), SnippetPlan(fps=10.0)])
def test_the_bytes_do_not_depend_on_who_computes(tmp_path, fake, monkeypatch, plan):
    """Neither on jobs, nor devices, nor how many pairs a device takes at a time."""
    names = make(tmp_path, "a", "b", "c", "d", "e")
    write_clip(tmp_path / "short.avi", moving_frames(3, seed=9))
    names.append("short.avi")
    modalities = (stored("rgb"), FLOW, WARPED, stored("rgbdiff"))
    trees = []
    for how, jobs, isolated, places in (
        ({"most": 1}, 1, False, 1),
        ({"most": 100}, 1, True, 1),
        ({"most": 7, "too_large": 5}, 3, True, 1),
        ({"most": 11}, 3, True, 2),
    ):
        fake(**how)
        flow_service._direct.cache_clear()
        there = tuple(Device(f"cpu:{place}", "") for place in range(places))
        monkeypatch.setattr(flow_pool, "find_devices", lambda _, there=there: there)
        out = tmp_path / f"out{len(trees)}"
        summary = extract(
            tmp_path, out, names, jobs, plan, modalities=modalities, isolated=isolated
        )
        assert summary.failures == {}
        assert summary.flow.devices == places
        trees.append(tree_bytes(out))
    assert len(trees[0]) > 4 * 3
    assert trees[0] == trees[1] == trees[2] == trees[3]


def test_units_are_those_of_single_pairs(tmp_path):
    """The fake's flow is exact, so what is stored is what a loop over pairs stores."""
    frames = moving_frames(9)
    write_clip(tmp_path / "a.avi", frames)
    images = []
    InProcess().extract(
        Task(tmp_path / "a.avi", SnippetPlan(dense=True), (FLOW,), device="cpu:0"),
        lambda *image: images.append(image),
    )
    assert [image[:3] for image in images] == [(0, unit, unit) for unit in range(8)]
    small = [Frame(resize(frame, (24, 32))) for frame in frames]
    for (_, unit, _, data), first, last in zip(images, small, small[1:]):
        pair = np.stack([first.gray, last.gray])
        flow = FakeFlow()(pair, np.array([[0, 1]]))[0]
        assert data == quantize_flow(flow, 20.0).tobytes(), unit


def test_flow_of_torch_is_that_of_numba_but_for_rounding(tmp_path, monkeypatch):
    from preprocess.flow_method import make_flow

    monkeypatch.setattr(flow_service, "make_flow", make_flow)
    flow_service._direct.cache_clear()
    write_clip(tmp_path / "a.avi", moving_frames(4))
    found = {}
    for device in ("cpu:0", None):
        images = []
        InProcess().extract(
            Task(tmp_path / "a.avi", SnippetPlan(snippets=1), (FLOW,), device=device),
            lambda *image, images=images: images.append(image),
        )
        found[device] = [np.frombuffer(data, np.uint8).astype(int) for *_, data in images]
    assert len(found["cpu:0"]) == len(found[None]) == 5
    differences = np.abs(np.array(found["cpu:0"]) - np.array(found[None]))
    assert differences.mean() < 0.05 and np.ptp(found[None]) > 10


def test_single_pairs_of_torch_are_computed_by_numba():
    first, second = (np.ascontiguousarray(frame[..., 0]) for frame in moving_frames(2))
    ours = flow_function("tvl1", flow_parameters("tvl1", backend=TORCH_BACKEND))
    numba = flow_function("tvl1", flow_parameters("tvl1"))
    np.testing.assert_array_equal(ours(first, second), numba(first, second))


def test_parameters_of_torch_are_checked_as_others():
    assert flow_parameters("tvl1", ["median=1"], TORCH_BACKEND)["median"] == 1
    with pytest.raises(InputError) as caught:
        flow_parameters("tvl1", ["tau=0"], TORCH_BACKEND)
    assert str(caught.value) == "tau must be > 0 and finite, got 0.0"


# --- what goes wrong ---


def test_memory_of_batches_is_bounded(monkeypatch):
    from preprocess.unit_batches import MOST_BYTES, BatchMaker

    maker = BatchMaker(flow_service.DirectFlow("a", "cpu:0"), 20.0, warps=False)
    monkeypatch.setattr(FakeFlow, "most_pairs", lambda self, height, width: 512)
    for size, units, batches in (
        ((256, 340), 42, 3),
        ((24, 32), 512, 3),
        ((1080, 1920), 1, 3),
        ((4096, 4096), 1, 1),
    ):
        assert (maker.most_units(size), maker.in_flight(size)) == (units, batches)
        each = 9 * size[0] * size[1]
        assert units == 1 or units * each <= MOST_BYTES
        assert batches == 1 or batches * units * each <= 3 * MOST_BYTES


@linux
def test_a_flow_process_that_dies_once_costs_nothing(tmp_path, fake):
    names = make(tmp_path, "a", "b", "c")
    extract(tmp_path, tmp_path / "calm", names, isolated=False)
    deaths = tmp_path / "deaths"
    deaths.mkdir()
    (deaths / "1").touch()
    fake(deaths=str(deaths))
    summary = extract(tmp_path, tmp_path / "out", names, jobs=1)
    assert summary.failures == {}
    assert [video.tries for video in summary.videos] == [2, 1, 1]
    assert summary.videos[0].lost == (
        "the flow process on cpu:0 was killed by SIGKILL, as the kernel does when memory runs out",
    )
    assert tree_bytes(tmp_path / "out") == tree_bytes(tmp_path / "calm")


@linux
def test_a_flow_process_that_dies_again_and_again_is_a_failure(tmp_path, fake):
    names = make(tmp_path, "a", "b")
    deaths = tmp_path / "deaths"
    deaths.mkdir()
    for number in range(2):
        (deaths / str(number)).touch()
    fake(deaths=str(deaths))
    summary = extract(tmp_path, tmp_path / "out", names, jobs=1)
    reason = (
        "the flow process on cpu:0 was killed by SIGKILL, as the kernel does when memory runs "
        "out, in each of 2 tries"
    )
    assert reasons(summary) == {"a.avi": ("crash", reason)}


@linux
@pytest.mark.parametrize("isolated", [True, False])
def test_a_pair_that_does_not_fit_fails_its_video_alone(tmp_path, fake, isolated):
    fake(huge=64)
    names = make(tmp_path, "a", "b")
    write_clip(tmp_path / "large.avi", moving_frames(15, (64, 48), seed=5))
    flow = stored(
        "flow", algorithm="tvl1", parameters=PARAMETERS, height=None, width=None, short_side=48
    )
    names.append("large.avi")
    summary = extract(tmp_path, tmp_path / "out", names, modalities=(flow,), isolated=isolated)
    stage, reason = reasons(summary).pop("large.avi")
    assert stage == "flow" and summary.num_jobs == 2
    assert reason.startswith("no memory for ") and reason.endswith("of 48x64")
    if isolated:
        assert reason == "no memory for 1 of 48x64"
    assert ShardSet(tmp_path / "out" / "d" / "flow-tvl1").names == ("a.avi", "b.avi")


@linux
def test_a_damaged_video_leaves_nothing_behind(tmp_path):
    """One that fails in the middle has batches on their way; the next video is none the worse."""
    names = make(tmp_path, "a", "b", "c", num_frames=40)
    limits = Limits(stall_seconds=60, max_frames=41)
    dense = SnippetPlan(dense=True)
    summary = extract(tmp_path, tmp_path / "out", names, 1, dense, limits=limits)
    assert list(summary.failures) == ["c.avi"]
    calm = extract(tmp_path, tmp_path / "calm", names, 1, dense, limits=limits, isolated=False)
    assert reasons(calm) == reasons(summary)
    trees = [tree_bytes(tmp_path / out) for out in ("out", "calm")]
    for tree in trees:
        del tree["d/failures.jsonl"]  # its commands name the folder
    assert trees[0] == trees[1]


@linux
def test_a_long_batch_is_no_hang(tmp_path, fake):
    fake(seconds=4, most=100)
    (name,) = make(tmp_path, "a")
    limits = Limits(stall_seconds=2)
    summary = extract(tmp_path, tmp_path / "out", [name], jobs=1, limits=limits)
    assert summary.failures == {}
    assert summary.videos[0].flow_seconds > 3


@linux
def test_a_device_that_cannot_be_used_ends_the_run_with_one_line(tmp_path, fake):
    fake(problem="device cpu:0: no driver")
    names = make(tmp_path, "a", "b")
    with pytest.raises(DeviceError) as caught:
        extract(tmp_path, tmp_path / "out", names)
    assert str(caught.value) == "device cpu:0: no driver"
    report = json.loads((tmp_path / "out" / "d" / "report.json").read_text())
    assert (report["status"], report["reason"]) == ("failed", "device cpu:0: no driver")
    fake()
    assert extract(tmp_path, tmp_path / "out", names).failures == {}


@linux
def test_a_process_goes_on_with_other_modalities(tmp_path):
    """The child that was started without flow is replaced, and so is one on another device."""
    make(tmp_path, "a")
    path = tmp_path / "a.avi"
    pids = []
    with isolation.borrowed_process() as process:
        for modalities, device in (
            ((stored("rgb"),), None),
            ((stored("rgb"), FLOW), "cpu:0"),
            ((FLOW,), "cpu:0"),
            ((stored("rgb"),), "cpu:0"),
            ((FLOW,), "cpu:1"),
        ):
            task = Task(path, SPARSE, modalities, device=device)
            images = []
            process.extract(task, lambda *image, images=images: images.append(image))
            here = []
            InProcess().extract(task, lambda *image, here=here: here.append(image))
            assert sorted(images) == sorted(here)
            pids.append(process._child.pid)
    assert len(set(pids)) == 3 and pids[1] == pids[2] == pids[3]


@linux
def test_an_interrupt_ends_the_flow_process_too(tmp_path):
    make(tmp_path / "data" / "x", "a", "b", "c")
    code = (
        f"import sys; sys.path[:0] = {sys.path!r}\n"
        "from preprocess import cli, flow_pool\n"
        "flow_pool.FLOW_MODULE = 'fake_flow_process'\n"
        "cli.main()"
    )
    words = ["extract", "--dataset", "folder", "--data", str(tmp_path / "data"), "--jobs", "2"]
    words += ["--out", str(tmp_path / "out"), "--size", "32x24", "--videos-per-shard", "1"]
    words += ["--modality", "flow", "--flow-backend", "torch"]
    command = [sys.executable, "-c", code, *words]
    begun = tmp_path / "begun"
    environment = {**os.environ, "FAKE_FLOW": json.dumps({"seconds": 60, "begun": str(begun)})}
    run = subprocess.Popen(
        command, stderr=subprocess.PIPE, text=True, start_new_session=True, env=environment
    )
    while not begun.exists():
        assert run.poll() is None
        time.sleep(0.01)
    family = psutil.Process(run.pid).children(recursive=True)
    assert len(family) >= 3, "two that decode, and one or two that compute"
    os.killpg(run.pid, signal.SIGINT)
    _, told = run.communicate(timeout=30)
    assert run.returncode == 130
    assert told == (
        "flow-tvl1: computed on cpu\ninterrupted; the same command goes on where this one stopped\n"
    )
    psutil.wait_procs(family, timeout=30)
    assert not any(child.is_running() for child in family)


# --- devices ---


def facts(monkeypatch, cuda_build="12.8", gpus=("H100", "H100")):
    found = {
        "torch": "2.11.0",
        "cuda_build": cuda_build,
        "gpus": [{"name": name, "gb": 80.0} for name in gpus],
    }
    monkeypatch.setattr(devices, "_facts", lambda visible: found)


def test_what_devices_a_text_names(monkeypatch):
    facts(monkeypatch)
    both = (Device("cuda:0", "H100"), Device("cuda:1", "H100"))
    assert find_devices("cuda") == both == find_devices("cuda:0,cuda:1,cuda:0")
    assert find_devices("cuda:1") == both[1:]
    cores = find_devices("cpu")
    assert cores[0] == Device("cpu:0", "") and len(set(cores)) == len(cores)


@pytest.mark.parametrize(
    ("text", "how", "kind", "message"),
    [
        (
            "gpu",
            {},
            InputError,
            "--device must be cpu, cuda, cuda:N or a list such as cuda:0,cuda:1, got 'gpu'",
        ),
        (
            "cuda:0,cpu",
            {},
            InputError,
            "--device must be cpu, cuda, cuda:N or a list such as cuda:0,cuda:1, got 'cuda:0,cpu'",
        ),
        (
            "cuda:2",
            {},
            InputError,
            "--device cuda:2: there is no cuda:2, only 2 GPUs, counted from 0",
        ),
        (
            "cuda",
            {"gpus": ()},
            DeviceError,
            "--device cuda: torch finds no GPU here; look at nvidia-smi and CUDA_VISIBLE_DEVICES, "
            "or leave --device out to compute on the CPU",
        ),
        (
            "cuda",
            {"cuda_build": None, "gpus": ()},
            DeviceError,
            "--device cuda: torch 2.11.0 is built without CUDA; install a build with it, or leave "
            "--device out to compute on the CPU",
        ),
    ],
)
def test_devices_that_are_not_there(monkeypatch, text, how, kind, message):
    facts(monkeypatch, **how)
    with pytest.raises(kind) as caught:
        find_devices(text)
    assert str(caught.value) == message


def test_torch_that_cannot_be_loaded(monkeypatch, tmp_path):
    (tmp_path / "broken_probe.py").write_text("raise ImportError('no such library')\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(devices, "_PROBE_MODULE", "broken_probe")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "none of those asked for before")
    with pytest.raises(MissingDependencyError) as caught:
        find_devices("cuda")
    assert str(caught.value) == (
        "--device: torch cannot be loaded (ImportError: no such library); pip install torch, or "
        "leave --device out to compute on the CPU"
    )


def test_jobs_go_to_the_device_that_has_the_fewest(monkeypatch):
    facts(monkeypatch)
    with lent_device("cuda") as first, lent_device("cuda") as second:
        assert (first, second) == ("cuda:0", "cuda:1")
        with lent_device("cuda") as third, lent_device("cuda:0") as fourth:
            assert (third, fourth) == ("cuda:0", "cuda:0")
            with lent_device("cuda") as fifth:
                assert fifth == "cuda:1"
    with lent_device("cuda") as again:
        assert again == "cuda:0"


def test_a_flow_process_for_every_set_of_visible_gpus(monkeypatch):
    """Ray gives the jobs of one worker other GPUs, all of which are its cuda:0."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    first = flow_process("cuda:0")
    assert flow_process("cuda:0") is first
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    assert flow_process("cuda:0") is not first


# --- on a cluster ---


def test_a_worker_without_a_gpu_is_told_so(tmp_path, monkeypatch):
    import socket

    facts(monkeypatch, gpus=())
    with guarding(tmp_path, (), "cuda") as guard:
        assert guard.num_gpus == devices.GPU_SHARE
        assert guard.problem() == (
            f"worker on {socket.gethostname()}: --device cuda: torch finds no GPU here; look at "
            "nvidia-smi and CUDA_VISIBLE_DEVICES, or leave --device out to compute on the CPU"
        )
        assert {"torch", "triton"} <= {package for package, _ in guard.versions}
    with guarding(tmp_path) as guard:
        assert guard.problem() is None and guard.num_gpus == 0
        assert {"torch", "triton"}.isdisjoint(package for package, _ in guard.versions)
    with guarding(tmp_path, (), "cpu") as guard:
        assert guard.problem() is None and guard.num_gpus == 0


# --- the bottleneck ---


def usage(
    origin="m-1-a", device="cuda:0", seconds=10.0, busy=9.6, batches=10, pairs=600, room=1000
):
    return FlowUsage(origin, origin[0], device, seconds, busy, batches, pairs, room)


def job(before, after):
    return JobReport(0, {}, (), {}, 1.0, (before, after))


def video(seconds, waited):
    return VideoReport("a.avi", seconds=seconds, flow_seconds=waited)


def test_flow_is_the_bottleneck():
    tally = FlowTally()
    assert tally.facts(5.0) is None
    tally.shard(job(None, None))
    assert tally.facts(5.0) is None
    tally.shard(job(None, usage()))
    tally.shard(job(usage(seconds=4.0, busy=3.0), usage(seconds=8.0, busy=7.0, pairs=500)))
    tally.video(video(10.0, 6.0))
    facts = tally.facts(12.0)
    assert facts.text() == (
        "flow: 600 pairs, 50.0 pairs/s, 60.0 in a batch (60% of what fits); GPU busy 96% of the "
        "time: flow is the bottleneck"
    )
    assert facts.content() == {
        "devices": 1,
        "on_gpu": True,
        "pairs": 600,
        "batches": 10,
        "pairs_per_second": 50.0,
        "batch_filling": 0.6,
        "busy_share": 0.96,
        "waiting_share": 0.6,
        "bottleneck": "flow",
    }


@pytest.mark.parametrize(
    ("waited", "bottleneck", "end"),
    [
        (
            1.0,
            "decoding",
            "GPU busy 40% of the time: decoding is the bottleneck; more --jobs would help, as far "
            "as there are cores",
        ),
        (
            8.0,
            "neither",
            "GPU busy 40% of the time: flow and decoding wait for each other; more --jobs would "
            "help",
        ),
    ],
)
def test_flow_is_not_the_bottleneck(waited, bottleneck, end):
    tally = FlowTally()
    tally.shard(job(None, usage(busy=4.0)))
    tally.video(video(10.0, waited))
    tally.video(VideoReport("copied.avi", tries=0, seconds=100.0))
    facts = tally.facts(12.0)
    assert facts.bottleneck == bottleneck
    assert facts.text().endswith(end)


def test_what_was_computed_before_the_run_does_not_count():
    """Flow processes of a cluster's workers live longer than a run."""
    tally = FlowTally()
    tally.shard(job(usage(), usage(seconds=30.0, busy=14.6, batches=15, pairs=900, room=1500)))
    tally.shard(
        job(
            usage(seconds=12.0, busy=10.0, pairs=650, room=1100, batches=11),
            usage(seconds=20.0, busy=12.0, pairs=700, room=1200, batches=12),
        )
    )
    facts = tally.facts(20.0)
    assert (facts.pairs, facts.batches, facts.seconds) == (300, 5, 20.0)
    assert facts.busy_share == pytest.approx(0.25) and facts.filling == 0.6


def test_a_flow_process_that_was_replaced_and_others():
    tally = FlowTally()
    tally.shard(job(usage("m-1-a"), usage("m-1-b")))
    tally.shard(job(None, usage("n-1-c", device="cuda:1")))
    facts = tally.facts(10.0)
    assert (facts.devices, facts.pairs, facts.seconds) == (2, 1200, 20.0)
    assert "; GPUs busy 96% of the time" in facts.text()
    tally = FlowTally()
    for number in range(2):
        tally.shard(job(None, usage(f"m-1-{number}", device=f"cpu:{number}")))
    assert "; flow processes busy 96% of the time" in tally.facts(10.0).text()


@linux
def test_report_and_log_say_how_flow_was_computed(tmp_path, fake):
    fake(seconds=0.02, most=7)
    names = make(tmp_path, "a", "b", "c")
    summary = extract(tmp_path, tmp_path / "out", names)
    root = tmp_path / "out" / "d"
    report = json.loads((root / "report.json").read_text())
    content = summary.flow.content()
    del content["pairs_per_second"]  # over a few milliseconds more
    assert {**report["flow"], **content} == report["flow"]
    assert report["flow"]["pairs_per_second"] > 0
    assert report["flow"]["pairs"] == report["modalities"][0]["images"]
    assert 0 < report["flow"]["busy_share"] <= 1 and 0 < report["flow"]["waiting_share"] <= 1
    assert report["settings"]["device"] == "cpu" and report["settings"]["devices"] == "cpu"
    assert "torch" in report["versions"]
    lines = [json.loads(line) for line in (root / "log.jsonl").read_text().splitlines()]
    assert lines[0]["settings"]["devices"] == "cpu"
    assert lines[-1]["event"] == "run-end" and lines[-1]["flow"] == report["flow"]
    extract(tmp_path, tmp_path / "out", names)
    report = json.loads((root / "report.json").read_text())
    assert report["flow"] is None and "device" not in report["settings"]


# --- the command line ---


def options(tmp_path, *more):
    words = ["extract", "--dataset", "folder", "--data", tmp_path / "data", "--jobs", "2"]
    return [*words, "--out", tmp_path / "out", "--size", "32x24", "--snippets", "2", *more]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ("--modality", "flow", "--device", "cuda", "--flow", "dis"),
            "--device cuda: dis is computed on the CPU alone; take --flow tvl1 with --flow-backend "
            "torch, or leave --device out to compute on the CPU",
        ),
        (
            ("--modality", "flow", "--device", "cuda", "--flow-backend", "numba"),
            "--device cuda: tvl1 of numba is computed on the CPU alone; take --flow tvl1 with "
            "--flow-backend torch, or leave --device out to compute on the CPU",
        ),
        (
            ("--device", "cuda"),
            "--device cuda: only flow is computed there, and none is to be made; leave --device "
            "out, or extract --modality flow",
        ),
        (
            ("--modality", "flow", "--device", "tpu"),
            "--device must be cpu, cuda, cuda:N or a list such as cuda:0,cuda:1, got 'tpu'",
        ),
    ],
)
def test_what_a_gpu_cannot_do_is_said_before_anything_is_looked_at(
    program, tmp_path, words, message
):
    done = program(*options(tmp_path, *words))
    assert (done.exit_code, done.stderr) == (1, f"error: {message}\n")


def test_no_gpu_is_said_before_anything_is_done(program, tmp_path, monkeypatch):
    facts(monkeypatch, gpus=())
    make(tmp_path / "data" / "x", "a")
    done = program(*options(tmp_path, "--modality", "flow", "--device", "cuda"))
    assert (done.exit_code, done.stderr) == (
        1,
        "error: --device cuda: torch finds no GPU here; look at nvidia-smi and "
        "CUDA_VISIBLE_DEVICES, or leave --device out to compute on the CPU\n",
    )
    assert not (tmp_path / "out").exists()


@linux
def test_extracting_on_gpus(program, tmp_path, monkeypatch):
    """As far as it can be told without one: the fake computes, on what is called a GPU."""
    facts(monkeypatch)
    make(tmp_path / "data" / "x", "a", "b", "c")
    done = program(*options(tmp_path, "--modality", "flow", "--modality", "rgb", "--device=cuda"))
    assert done.exit_code == 0, done.stderr
    assert "flow-tvl1: computed on cuda:0 (H100), cuda:1 (H100)\n" in done.stderr
    assert "; GPUs busy " in done.stdout.splitlines()[-1]
    index = json.loads((tmp_path / "out" / "data" / "flow-tvl1" / "index.json").read_text())
    assert index["modality"]["parameters"]["backend"] == "torch"
    report = json.loads((tmp_path / "out" / "data" / "report.json").read_text())
    assert report["flow"]["devices"] == 2 and report["flow"]["on_gpu"]
    assert report["settings"]["devices"] == "cuda:0 (H100), cuda:1 (H100)"
    # the same shards go on without a GPU, by the same backend alone
    words = options(tmp_path, "--modality", "flow")
    assert program(*words).stderr == (
        f"error: {tmp_path / 'out' / 'data' / 'flow-tvl1'}: written with backend=torch, this run "
        "has backend=numba; go on with --flow-backend torch, choose another --out or delete the "
        "folder\n"
    )
    assert "nothing to do" in program(*words, "--flow-backend", "torch").stdout


@linux
def test_repairing_says_where_it_computes(program, tmp_path):
    make(tmp_path / "data" / "x", "a", "b", "c")
    (tmp_path / "data" / "x" / "d.avi").write_text("no video")
    words = options(tmp_path, "--modality", "flow", "--flow-backend", "torch")
    assert program(*words, "--allow-failures").exit_code == 0
    root = tmp_path / "out" / "data"
    before = tree_bytes(root)
    (root / "flow-tvl1" / "shard-00001.h5").write_bytes(b"damaged")
    done = program("verify", root, "--repair", "--jobs", "2")
    assert "flow-tvl1: computed on cpu\n" in done.stderr
    assert tree_bytes(root) == before
    write_clip(tmp_path / "data" / "x" / "d.avi", moving_frames(12))
    done = program("retry", root, "--jobs", "1")
    assert done.exit_code == 0 and "flow-tvl1: computed on cpu\n" in done.stderr
    assert len(ShardSet(root / "flow-tvl1").names) == 4
    done = program("try", root, "x/a.avi")
    assert done.exit_code == 0 and "flow-tvl1: 10 images" in done.stdout


def test_repairing_on_a_gpu_needs_flow_that_is_computed_there(program, tmp_path, monkeypatch):
    facts(monkeypatch)
    make(tmp_path / "data" / "x", "a")
    assert program(*options(tmp_path)).exit_code == 0
    for words in (("retry", tmp_path / "out" / "data"), ("try", tmp_path / "out/data", "x/a.avi")):
        done = program(*words, "--device", "cuda")
        assert (done.exit_code, done.stderr) == (
            1,
            "error: --device cuda: only flow is computed there, and none is to be made; leave "
            "--device out, or extract --modality flow\n",
        )


def test_plan_says_what_it_cannot_foretell(program, tmp_path):
    words = ["plan", "--dataset", "folder", "--data", tmp_path, "--modality", "flow"]
    done = program(*words, "--flow", "tvl1", "--flow-backend", "torch")
    assert (done.exit_code, done.stderr) == (
        1,
        "error: plan measures one pair at a time and cannot foretell flow that is computed in "
        "batches (--flow-backend torch, --device cuda); extract a few videos with these options: "
        "the last line and report.json tell the rate, and what limits it\n",
    )


@linux
def test_the_program_and_its_decoding_processes_load_no_torch(tmp_path):
    make(tmp_path / "data" / "x", "a")
    (tmp_path / "watched_child.py").write_text(
        "import sys\n"
        "from pathlib import Path\n"
        "from preprocess import child, task\n"
        "extract = task.InProcess.extract\n"
        "def watched(self, *given):\n"
        "    extracted = extract(self, *given)\n"
        f"    Path({str(tmp_path / 'child')!r}).write_text(str('torch' in sys.modules))\n"
        "    return extracted\n"
        "task.InProcess.extract = watched\n"
        "child.main(*map(int, sys.argv[1:4]), *sys.argv[4:])\n"
    )
    code = (
        f"import sys; sys.path[:0] = {[str(tmp_path), *sys.path]!r}\n"
        "from preprocess import cli, flow_pool, isolation\n"
        "flow_pool.FLOW_MODULE = 'fake_flow_process'\n"
        "isolation.CHILD_MODULE = 'watched_child'\n"
        "cli.main(standalone_mode=False)\n"
        "print('torch' in sys.modules)\n"
    )
    words = options(tmp_path, "--modality", "flow", "--flow-backend", "torch")
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, words)], capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines()[-1] == "False"
    assert (tmp_path / "child").read_text() == "False"


# --- predicting ---


@linux
def test_predicting_computes_on_a_gpu_or_else_by_numba(tmp_path):
    """From a file, in a process of its own or here, and from a memory of the last frames."""
    from types import SimpleNamespace

    from tsn_app.frame_buffer import FrameBuffer
    from tsn_app.prediction import Extraction

    frames = moving_frames(9, (24, 32))
    write_clip(tmp_path / "a.avi", frames)
    one = SimpleNamespace(modality=FLOW)
    ensemble = SimpleNamespace(predictors=(one,), class_names=("a", "b"))
    found = {}
    for gpu in (None, "cuda:0"):
        for isolated in (True, False):
            extraction = Extraction(ensemble, Limits(), isolated, gpu)
            (video,), _ = extraction.file(tmp_path / "a.avi", [SPARSE])
            found[gpu, isolated] = dict(video.images)
        buffer = FrameBuffer("x", 25.0, 1.0)
        for frame in frames:
            buffer.add(frame)
        (video,) = extraction.frames(buffer, [SPARSE])
        found[gpu, "memory"] = dict(video.images)
    grays = [Frame(frame).gray for frame in frames]
    numba = flow_function("tvl1", flow_parameters("tvl1"))
    for (gpu, how), images in found.items():
        assert len(images) == 8
        for unit, data in images.items():
            pair = grays[unit : unit + 2]
            flow = (
                numba(*pair) if gpu is None else FakeFlow()(np.stack(pair), np.array([[0, 1]]))[0]
            )
            assert data == quantize_flow(flow, 20.0).tobytes(), (gpu, how, unit)


@linux
def test_real_flow_gives_the_same_bytes_too(tmp_path, monkeypatch):
    """TV-L1 by torch, in flow processes of one thread and in this process."""
    from preprocess.flow_method import make_flow

    monkeypatch.setattr(flow_pool, "FLOW_MODULE", "preprocess.flow_process")
    monkeypatch.setattr(flow_service, "make_flow", make_flow)
    flow_service._direct.cache_clear()
    names = make(tmp_path, "a", "b", "c")
    trees = []
    for number, (jobs, isolated) in enumerate(((1, True), (3, True), (1, False))):
        out = tmp_path / f"out{number}"
        plan = SnippetPlan(snippets=1)
        summary = extract(tmp_path, out, names, jobs, plan, isolated=isolated, modalities=(WARPED,))
        assert summary.failures == {} and summary.flow.pairs >= 15
        trees.append(tree_bytes(out))
    assert trees[0] == trees[1] == trees[2]


def test_without_memory_to_hand_over_a_process_computes_itself(tmp_path, monkeypatch):
    """As on macOS: TV-L1 by torch in the decoding process, whose bytes are the same."""
    from preprocess.flow_method import make_flow

    monkeypatch.setattr(isolation, "has_flow_processes", lambda: False)
    monkeypatch.setattr(flow_pool, "has_flow_processes", lambda: False)
    monkeypatch.setattr(flow_service, "make_flow", make_flow)
    flow_service._direct.cache_clear()
    names = make(tmp_path, "a")
    plan = SnippetPlan(snippets=1)
    summary = extract(tmp_path, tmp_path / "apart", names, 1, plan)
    assert summary.failures == {} and summary.flow is None
    assert summary.videos[0].flow_seconds > 0
    extract(tmp_path, tmp_path / "here", names, 1, plan, isolated=False)
    assert tree_bytes(tmp_path / "apart") == tree_bytes(tmp_path / "here")
