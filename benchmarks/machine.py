"""What a measurement on a GPU must know of the machine."""

from __future__ import annotations

from importlib.util import find_spec

# Packages of this project that a machine with a GPU may lack, which the others do without.
_NEEDED = {"gpu_extract": "av", "gpu_chain": "av"}


def gpu_names() -> list[str]:
    """Return the names of the GPUs that torch can use."""
    import torch

    return [torch.cuda.get_device_name(number) for number in range(torch.cuda.device_count())]


def lack(name: str) -> str | None:
    """Return what a benchmark needs that is not there, one line, or None."""
    package = _NEEDED.get(name)
    if package is None or find_spec(package) is not None:
        return None
    return f"{name}: needs {package}, which is not installed; pip install {package}"


def choose_device(asked: str, name: str) -> str:
    """Return ``cuda`` or ``cpu``.

    Args:
        asked: One of these, or ``auto``, for a GPU.
        name: Of the benchmark, for the message.

    Raises:
        SystemExit: There is no GPU, and nobody asked for the CPU.
    """
    if asked != "cpu" and not gpu_names():
        raise SystemExit(
            f"{name}: no GPU that torch can use; on this machine, "
            f"python -m benchmarks {name} --small --device cpu runs its small form"
        )
    return "cpu" if asked == "cpu" else "cuda"
