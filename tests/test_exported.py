"""Networks for other programs: what ONNX Runtime and torch.export compute, and are told."""

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import stored
from torch import nn
from train_helpers import failure, make_tsn, message_of, run_program, write_dataset

from train import exported
from train.exported import ExportSettings, describe, export, open_snippets
from train.run_folder import load_checkpoint, save_checkpoint
from tsn_core.consensus import CONSENSUS
from tsn_core.errors import CheckpointError, InputError, MissingDependencyError
from tsn_core.shard_set import ShardSet
from tsn_core.temporal_shift import ShiftedConv2d

onnxruntime = pytest.importorskip("onnxruntime")
NO_VIDEOS = np.empty((0,), np.uint8)


def small_network(shift=0, **changes):
    """A network with a convolution for a backbone, so that exporting takes a second or two."""
    model = make_tsn(backbone="conv8", **changes)
    conv = nn.Conv2d(len(model.mean), 512, 5, stride=4)
    if shift:
        conv.__class__, conv.num_segments, conv.shifted_channels = ShiftedConv2d, 3, 1
        object.__setattr__(model.settings, "temporal_shift", shift)
    model.backbone = nn.Sequential(conv, nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    for parameter in (model.classifier or model.consensus).parameters():
        nn.init.normal_(parameter, std=0.1)  # scores worth comparing
    if hasattr(model.consensus, "weight"):
        nn.init.uniform_(model.consensus.weight)
    return model.eval()


def export_to(path, model, kind="onnx", part="whole", num_snippets=None, real=NO_VIDEOS):
    settings = ExportSettings(kind, part, 24, num_snippets, 1e-4)
    description = describe(model, ("walk", "run"), settings, "last.pt")
    return description, export(model, description, settings, path, real)


def snippets_of(model, n, k):
    generator = torch.Generator().manual_seed(5)
    shape = (n, k, len(model.mean), 24, 24)
    return torch.randint(0, 256, shape, generator=generator, dtype=torch.uint8)


# Weighted and attention are exported with a temporal shift and by the program, below.
def test_an_interruption_is_no_network_that_cannot_be_exported():
    class TorchExportError(Exception):
        pass

    TorchExportError.__module__ = "torch.onnx._internal"

    def interrupted():
        with exported._explaining(make_tsn(backbone="conv8")):
            try:
                raise KeyboardInterrupt
            except KeyboardInterrupt as error:
                raise TorchExportError("\x1b[96mstep 1\x1b[0m") from error

    with pytest.raises(KeyboardInterrupt):
        interrupted()


@pytest.mark.slow(reason="PyTorch's exporter to ONNX takes seconds, however small the network")
@pytest.mark.parametrize("consensus", sorted({*CONSENSUS} - {"weighted", "attention"}))
def test_onnx_runtime_gives_the_scores_of_a_consensus(consensus, tmp_path):
    model = small_network(consensus=consensus, modality="flow", snippet_length=2)
    path = tmp_path / "x.onnx"
    description, differences = export_to(path, model)
    assert differences.keys() == {"random"} and differences["random"] < 1e-4
    session = onnxruntime.InferenceSession(path)
    numbers = (1, 3, 7) if consensus in ("avg", "max") else (3,)
    for n, k in [(n, k) for n in (1, 4) for k in numbers]:
        snippets = snippets_of(model, n, k)
        (found,) = session.run(["scores"], {"snippets": snippets.numpy()})
        with torch.inference_mode():
            expected = model(snippets)[0].numpy()
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
        assert np.ptp(expected, axis=1).min() > 1e-3
    sides = [("snippets" if len(numbers) > 1 else 3), 4, 24, 24]
    assert description["input"]["shape"] == ["videos", *sides]
    stored_text = session.get_modelmeta().custom_metadata_map["tsn"]
    assert json.loads(stored_text) == description
    assert json.loads((tmp_path / "x.onnx.json").read_text()) == description


@pytest.mark.parametrize("consensus", CONSENSUS)
def test_programs_of_torch_export_do_too(consensus, tmp_path):
    model = small_network(consensus=consensus)
    path = tmp_path / "x.pt2"
    description, differences = export_to(path, model, "torch-export")
    assert differences["random"] < 1e-6
    extra = {"tsn": ""}
    program = torch.export.load(path, extra_files=extra)
    assert json.loads(extra["tsn"]) == description
    snippets = snippets_of(model, 5, 3)
    torch.testing.assert_close(program.module()(snippets), model(snippets)[0])


def test_features_of_the_backbone(tmp_path):
    model = small_network(consensus="gru")  # whose features do not depend on their number
    path = tmp_path / "x.pt2"
    description, _ = export_to(path, model, "torch-export", "backbone")
    assert description["output"]["name"] == "features"
    assert description["output"]["shape"] == ["videos", "snippets", 512]
    snippets = snippets_of(model, 2, 5)
    found = torch.export.load(path).module()(snippets)
    torch.testing.assert_close(found, model.snippet_features(snippets))


def test_a_temporal_shift_and_other_numbers_of_snippets(tmp_path):
    model = small_network(shift=2, consensus="weighted")
    assert not open_snippets(model, "backbone")
    export_to(tmp_path / "x.onnx", model, num_snippets=5)
    session = onnxruntime.InferenceSession(tmp_path / "x.onnx")
    snippets = snippets_of(model, 2, 5)
    (found,) = session.run(None, {"snippets": snippets.numpy()})
    with torch.inference_mode():
        expected = model(snippets)[0].numpy()
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_what_the_user_of_the_file_is_told():
    model = make_tsn(backbone="conv8", modality="flow", snippet_length=2)
    settings = ExportSettings("onnx", "whole", 224, None, 1e-4)
    described = describe(model, ("walk", "run"), settings, "runs/x/last.pt")
    assert described.pop("made_by").startswith("tsn-shards ")
    assert described.pop("mean") == [127.5] * 4
    assert described.pop("std") == pytest.approx([255 * (0.229 + 0.224 + 0.225) / 3] * 4)
    assert described == {
        "format": "tsn-export",
        "version": 1,
        "source": "runs/x/last.pt",
        "part": "whole",
        "modality": "flow",
        "snippet_length": 2,
        "backbone": "conv8",
        "consensus": "avg",
        "class_names": ["walk", "run"],
        "input": {
            "name": "snippets",
            "dtype": "uint8",
            "shape": ["videos", "snippets", 4, 224, 224],
        },
        "output": {"name": "scores", "dtype": "float32", "shape": ["videos", 2]},
        "normalisation": "inside",
    }


# --- what goes wrong ---


def test_differences_beyond_the_tolerance_leave_nothing(tmp_path, monkeypatch):
    model = small_network()
    wrong = {"torch-export": lambda path: lambda snippets: np.full((len(snippets), 2), 1e6)}
    monkeypatch.setattr(exported, "_READERS", wrong)
    with pytest.raises(CheckpointError) as caught:
        export_to(tmp_path / "x.pt2", model, "torch-export")
    told = str(caught.value)
    assert told.startswith(f"{tmp_path / 'x.pt2'}: differs from PyTorch by ")
    assert told.endswith(
        " of the largest output on random input, at most 0.0001 expected; nothing was written; "
        "try another version of onnxruntime or torch, or allow it with --tolerance"
    )
    assert list(tmp_path.iterdir()) == []


def test_onnx_is_not_installed(tmp_path, monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name.startswith("onnx") else find(name)
    )
    with pytest.raises(MissingDependencyError) as caught:
        export_to(tmp_path / "x.onnx", small_network())
    assert str(caught.value) == (
        "onnx, onnxscript, onnxruntime not installed; run: pip install 'tsn-shards[onnx]'"
    )


def test_a_network_that_cannot_be_exported(tmp_path, monkeypatch):
    class Broken(nn.Module):
        def forward(self, images):
            return images.flatten(1)[:, : int(images.sum() % 5) + 1]

    model = small_network()
    model.backbone = Broken()
    with pytest.raises(InputError) as caught:
        export_to(tmp_path / "x.pt2", model, "torch-export")
    told = str(caught.value)
    assert told.startswith("conv8 with avg cannot be exported: ")
    assert told.endswith("; choose another --to") and "\n" not in told
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ((0, None, 1e-4), "input_size must be > 0, got 0"),
        ((24, 0, 1e-4), "num_snippets must be > 0, got 0"),
        ((24, None, 0.0), "tolerance must be > 0, got 0.0"),
    ],
)
def test_settings_out_of_range(change, message):
    assert message_of(ExportSettings, "onnx", "whole", *change) == message


# --- the program ---


@pytest.fixture
def run(tmp_path):
    shards = write_dataset(tmp_path / "tiny", modalities=[stored("rgb")])
    folder = tmp_path / "run"
    folder.mkdir()
    model = make_tsn(backbone="conv8", consensus="attention")
    nn.init.normal_(model.classifier.weight)
    nn.init.normal_(model.consensus.weight)
    save_checkpoint(folder / "last.pt", model, ("walk", "run"), {"rows": []})
    config = {
        "shards": str(shards),
        "modality_folder": "rgb",
        "split": 1,
        "input_size": 24,
        "val_subset": "test",
    }
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def test_a_reader_without_torch(run, tmp_path):
    """As docs/models.md shows it: shards, ONNX Runtime and NumPy."""
    out = tmp_path / "rgb.onnx"
    result = run_program("export", run, "--to", "onnx", "--out", out)
    line = f"writing {out} and comparing it with PyTorch; this takes up to a minute\n"
    assert (result.exit_code, result.stderr) == (0, line), result.output
    lines = result.stdout.splitlines()
    assert lines[0].startswith(f"{out}: onnx, uint8 (videos, snippets, 3, 24, 24) to scores, ")
    assert lines[1].startswith("largest difference to PyTorch, of the largest output: ")
    assert lines[1].endswith(" on real input; 0.0001 allowed") and " on random input, " in lines[1]
    assert lines[2:] == [f"{out}.json: classes, modality, sizes"]

    text = (Path(__file__).parent.parent / "docs" / "models.md").read_text(encoding="utf-8")
    (code,) = [
        block.partition("\n```")[0]
        for block in text.split("```python\n")[1:]
        if "InferenceSession" in block
    ]
    assert "torch" not in code
    code = code.replace("rgb.onnx", str(out)).replace(
        "shards/hmdb51/rgb", str(tmp_path / "tiny/rgb")
    )
    names = {}
    exec(code, names)
    model, _, _ = load_checkpoint(run / "last.pt")
    stack = ShardSet(tmp_path / "tiny" / "rgb").read(0, [0, 1, 2])  # (3, 1, 24, 32, 3)
    snippets = torch.from_numpy(stack[:, 0, :, 4:28].transpose(0, 3, 1, 2).copy())[None]
    with torch.inference_mode():
        expected = model.eval()(snippets)[0].numpy()
    np.testing.assert_allclose(names["scores"], expected, rtol=1e-4, atol=1e-6)


def test_a_program_of_a_run_whose_shards_are_gone(run, tmp_path):
    config = json.loads((run / "config.json").read_text())
    config["shards"] = ""
    (run / "config.json").write_text(json.dumps(config))
    command = ("export", run, "--to", "torch-export", "--out", tmp_path / "x.pt2")
    result = run_program(*command)
    assert result.stderr == (
        "the run names no shards: compared on random input only\n"
        f"writing {tmp_path / 'x.pt2'} and comparing it with PyTorch; this takes up to a minute\n"
    )
    assert result.exit_code == 0
    assert failure(*command, "--shards", tmp_path / "gone") == (
        f"error: {tmp_path / 'gone/rgb/index.json'}: not there; extract that modality, "
        "or let an unfinished extraction finish\n"
    )


def test_weights_alone_take_no_options_of_programs(run, tmp_path):
    command = ("export", run, "--to", "tsn-pytorch", "--out", tmp_path / "x.pth")
    assert failure(*command, "--part", "backbone", "--num-snippets", 3) == (
        "error: --to tsn-pytorch writes weights, to which --part, --num-snippets means nothing; "
        "leave it out, or choose --to onnx or torch-export\n"
    )
    for option in ("--input-size", "--tolerance", "--shards"):
        assert failure(*command, option, 1) == (
            f"error: --to tsn-pytorch writes weights, to which {option} means nothing; leave it "
            "out, or choose --to onnx or torch-export\n"
        )
