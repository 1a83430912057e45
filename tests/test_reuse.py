"""What docs/reuse.md shows must run as it stands there, each block by itself."""

import re
import sys
import types
from pathlib import Path

import numpy as np
import pytest

from preprocess.cli import main as preprocess
from tsn_core import Video, open_shards

ROOT = Path(__file__).parent.parent
TEXT = (ROOT / "docs" / "reuse.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A folder in which the page's commands have been run."""
    home = tmp_path_factory.mktemp("reuse")
    (commands,) = re.findall(r"```bash\n(.*?)```", TEXT, re.DOTALL)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(home)
        for command in commands.replace("\\\n", " ").strip().splitlines():
            program, *words = command.split()
            assert program == "tsn-preprocess"
            with pytest.raises(SystemExit) as stopped:
                preprocess(words)
            assert stopped.value.code == 0
    return home


@pytest.fixture
def block(home, monkeypatch):
    """``block("Videos")``: run the one block below a heading, and return the names it leaves."""
    monkeypatch.chdir(home)

    def run(heading: str) -> dict:
        section = TEXT.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
        (code,) = re.findall(r"```python\n(.*?)```", section, re.DOTALL)
        names: dict = {"__name__": "block"}
        exec(compile(code, heading, "exec"), names)
        return names

    return run


def test_every_block_is_run_by_a_test():
    run = Path(__file__).read_text(encoding="utf-8")
    sections = TEXT.split("\n## ")[1:]
    headings = [part.partition("\n")[0] for part in sections if "```python" in part]
    assert len(headings) == 8 == TEXT.count("```python")
    assert [heading for heading in headings if f'block("{heading}")' not in run] == []


def test_videos(block, capsys):
    found = block("Videos")
    first, second = capsys.readouterr().out.splitlines()
    assert first.startswith("24 videos, 18 of them to train on: ")
    assert second.startswith(f"{found['train'][0].name} {found['train'][0].class_name} ")
    assert found["codes"].shape == found["pixels"].shape == (2, 5, 96, 96, 2)
    assert found["clip"].shape == (8, 96, 96, 2)
    assert isinstance(found["video"], Video) and 1 < found["fastest"] <= 8
    assert "videos/left/left_0000.avi" in found["shards"]


def test_the_video_resnet(block, capsys):
    found = block("torchvision's video ResNet")
    assert found["clips"].shape == (2, 3, 8, 48, 48)
    assert re.fullmatch(r"loss \d\.\d\d\n", capsys.readouterr().out)


def test_the_vision_transformer(block):
    found = block("A multiscale vision transformer, streamed")
    assert found["clips"].shape == (1, 3, 16, 224, 224) and found["scores"].shape == (1, 6)
    assert found["scores"].isfinite().all()


def test_two_streams(block):
    found = block("Two streams, fused late")
    assert found["fused"].shape == (8, 6)
    assert found["fused"].sum(dim=1).tolist() == pytest.approx([2.5] * 8)
    assert found["rgb"].names == found["flow"].names


def test_scikit_learn(block, capsys):
    assert block("scikit-learn on pooled features")["accuracy"] >= 4 / 6
    assert capsys.readouterr().out.endswith("% of 6 videos\n")


def test_reading_without_the_package(block, home):
    found = block("Without this package")
    (section,) = re.findall(r"\n## Without this package\n(.*?)\n## ", TEXT, re.DOTALL)
    assert "tsn_core" not in section
    video = open_shards(home / "shards/synthetic", "flow")[0]
    assert found["name"] == video.name
    # two decoders may round differently, by one code
    assert np.abs(found["pixels"] - video.values([3])[0]).max() <= 1.01 * 16 / 255


def keras_stub() -> types.ModuleType:
    """Return what the block needs of Keras, for where it is not installed.

    ``PyDataset`` and ``fit`` do what Keras 3 documents: every batch is asked for by number, then
    the data set is told that the epoch has ended.
    """

    class PyDataset:
        def __init__(self, workers: int = 1) -> None:
            self.workers = workers

        def __getitem__(self, number: int) -> object:
            raise NotImplementedError

        def on_epoch_end(self) -> None:
            raise NotImplementedError

    class Sequential:
        def __init__(self, layers: list) -> None:
            self.seen: list = []

        def compile(self, *_: object) -> None: ...

        def fit(self, batches: PyDataset, epochs: int, verbose: int) -> None:
            assert isinstance(batches, PyDataset)
            for _ in range(epochs):
                self.seen += [batches[number][1] for number in range(len(batches))]  # type: ignore
                batches.on_epoch_end()

    names = ("TimeDistributed", "Conv2D", "GlobalAveragePooling3D", "Dense")
    keras = types.ModuleType("keras")
    keras.layers = types.SimpleNamespace(**dict.fromkeys(names, lambda *_, **__: None))
    keras.utils = types.SimpleNamespace(PyDataset=PyDataset)
    keras.Sequential = Sequential
    return keras


def test_keras(block, monkeypatch):
    monkeypatch.setitem(sys.modules, "keras", keras_stub())
    found = block("Keras")
    assert found["snippets"].shape == (4, 3, 96, 96, 10) and found["snippets"].dtype == np.float32
    assert abs(found["snippets"]).max() <= 1
    labels = np.concatenate(found["model"].seen)
    assert sorted(labels) == sorted(found["shards"].labels)
    assert not np.array_equal(found["batches"][0][0], found["snippets"])  # the next epoch's


def test_jax(block, monkeypatch):
    jax = types.ModuleType("jax")
    monkeypatch.setitem(sys.modules, "jax", jax)
    monkeypatch.setitem(sys.modules, "jax.numpy", np)
    jax.numpy = np
    found = block("JAX")
    assert found["number"] == 2 and found["brightness"].shape == (8,)
    assert found["snippets"].min() >= 0 and 0.2 < found["brightness"].mean() < 0.8
