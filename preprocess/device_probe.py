"""Which GPUs torch can use: ``python -m preprocess.device_probe`` prints one line of JSON.

A process of its own asks, so that a program that only has to know does not load torch, nor take
memory of a GPU.
"""

from __future__ import annotations

import json
from typing import Any


def gpus() -> list[dict[str, Any]]:
    """Return name and memory, in GB of 10^9 bytes, of every GPU that torch sees. Loads torch."""
    import torch

    return [
        {
            "name": torch.cuda.get_device_name(number),
            "gb": round(torch.cuda.get_device_properties(number).total_memory / 1e9, 1),
        }
        for number in range(torch.cuda.device_count())
    ]


def main() -> None:
    """Print what there is."""
    import torch

    facts = {"torch": torch.__version__, "cuda_build": torch.version.cuda, "gpus": gpus()}
    print(json.dumps(facts))


if __name__ == "__main__":
    main()
