"""Every consensus, and 1 to 7 segments, on the aerobics clips: ``tsn-train ablate``.

Run as ``python -m benchmarks.bench_ablation`` with ``TSN_CLIPS`` set, and ``TSN_WEIGHTS`` naming
ImageNet weights of ``mobilenet_v2``. An interrupted measurement goes on. Besides
``results/ablation.json`` it writes the page and the picture of the documentation.
"""

from __future__ import annotations

import argparse
import json
import shutil
from pathlib import Path

from benchmarks.aerobics import FIT, TEST, extract, run, weights_file, without_paths
from benchmarks.report import RESULTS, write_result

_DOCS = RESULTS.parent.parent / "docs"
_PAGE = """\
# Consensus functions and numbers of segments compared

27 clips of three arm actions; each of three people is left out in turn (`{modality}`, 170x128
frames, `mobilenet_v2` with ImageNet weights, seed {seed}). Training seconds are of all three splits
together. Each split tests 9 videos, so one video is 11 points of a split and 4 of the pool:
smaller differences than that say nothing.

```bash
{commands}
```

{table}
![accuracy by consensus and by number of segments](images/ablation.png)
"""


def main() -> None:
    """Measure and write ``results/ablation.json``, ``docs/ablation.md`` and its picture."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--modality", default="flow", choices=("rgb", "flow", "rgbdiff"))
    parser.add_argument("--flow", default="tvl1", choices=("tvl1", "farneback", "dis"))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--epochs", type=int, help="for a try: nothing but OUT is written")
    parser.add_argument("--out", type=Path, default=Path("demo/ablation"))
    options = parser.parse_args()
    runs = options.out / f"{options.modality}-seed{options.seed}"
    if options.epochs:
        runs = runs.with_name(f"{runs.name}-epochs{options.epochs}")
    flow = f"--flow {options.flow} " if options.modality == "flow" else ""
    epochs = f"--epochs {options.epochs} " if options.epochs else ""
    commands = [
        extract(options.out, [options.modality], options.flow),
        run(
            "train",
            f"ablate --shards {options.out / 'shards/aerobics'} --modality {options.modality} "
            f"{flow}--weights {weights_file()} {FIT} {epochs}--seed {options.seed} {TEST} "
            f"--out {runs}",
        ),
    ]
    if options.epochs:
        return
    commands = without_paths(commands, options.out)
    result = json.loads((runs / "ablation.json").read_text())
    print(write_result("ablation", {**result, "seed": options.seed, "commands": commands}))
    shutil.copyfile(runs / "ablation.png", _DOCS / "images" / "ablation.png")
    page = _PAGE.format(
        modality=result["modality"],
        seed=options.seed,
        commands="\n".join(commands),
        table=(runs / "ablation.md").read_text(),
    )
    (_DOCS / "ablation.md").write_text(page)


if __name__ == "__main__":
    main()
