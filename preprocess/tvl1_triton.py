"""TV-L1 at one scale by Triton: what is launched, in which order."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import triton

from preprocess import tvl1_triton_kernels as kernels
from preprocess.tvl1_eager import with_gradients
from preprocess.tvl1_parameters import TVL1Parameters

_ROW = 32  # rows begin at multiples of so many float32: a cache line


@dataclass(frozen=True)
class Tiling:
    """How a sweep over an image is cut.

    Attributes:
        height: Rows of a tile, halo included; a power of two.
        width: Columns of a tile; a power of two.
        halo: Rows and columns around the core, and iterations in one launch.
        warps: Of a program.
        registers: That a thread may use at most; what is more is spilled.
        block: Pixels of a program that looks at each pixel by itself; a power of two.
    """

    height: int = 32
    width: int = 64
    halo: int = 4
    warps: int = 8
    registers: int | None = 128  # two programs of 8 warps then share a multiprocessor
    block: int = 256

    def count(self, height: int, width: int) -> tuple[int, int]:
        """Return how many tiles an image of that size has, down and across.

        Examples:
            >>> Tiling().count(256, 340)
            (11, 6)
        """
        return (
            _tiles(height, self.height - 2 * self.halo, self.halo),
            _tiles(width, self.width - 2 * self.halo, self.halo),
        )


def _tiles(length: int, core: int, halo: int) -> int:
    """Return the tiles along a side: there is no halo at its ends, but a pixel of zeros before."""
    return max(math.ceil((length + 1 - 2 * halo) / core), 1)


class TritonSolver:
    """A ``preprocess.tvl1_torch.ScaleSolver`` of Triton's kernels.

    Attributes:
        iterations: Of each pair, (N,) int32, by the (height, width) of the scale; of the last call.
    """

    def __init__(self, parameters: TVL1Parameters, tiling: Tiling | None = None) -> None:
        """Make it ready; kernels are compiled, or loaded, when they are used first."""
        self._parameters = parameters
        self._tiling = tiling or Tiling()
        self.iterations: dict[tuple[int, int], torch.Tensor] = {}

    def __call__(
        self, frames: torch.Tensor, pairs: torch.Tensor, flow: torch.Tensor
    ) -> torch.Tensor:
        """Refine flow at one scale; see ``ScaleSolver``."""
        if not len(pairs):
            return flow
        with torch.device(frames.device):
            scale = _Scale(self._parameters, self._tiling, frames, pairs, flow)
            solved = scale.solve()
        self.iterations[frames.shape[1], frames.shape[2]] = scale.iterations
        return solved


class _Scale:
    """The fields of all pairs at one scale.

    Attributes:
        iterations: Of each pair so far, (N,) int32.
    """

    def __init__(
        self,
        parameters: TVL1Parameters,
        tiling: Tiling,
        frames: torch.Tensor,
        pairs: torch.Tensor,
        flow: torch.Tensor,
    ) -> None:
        self._parameters = parameters
        self._tiling = tiling
        self._frames = frames.contiguous()
        self._seconds = with_gradients(frames)
        self._pairs = pairs.contiguous()
        self._num_pairs, (height, width) = len(pairs), frames.shape[1:]
        self._stride = math.ceil(width / _ROW) * _ROW
        self._size = (height, width, self._stride)
        self._u = torch.zeros(2, self._num_pairs, 2, height, self._stride)
        self._u[0, ..., :width] = flow * parameters.units_per_pixel
        self._p = torch.zeros(2, self._num_pairs, 4, height, self._stride)
        self._slopes = torch.empty(self._num_pairs, 4, height, self._stride)
        down, self._across = tiling.count(height, width)
        self._num_tiles = down * self._across
        self._errors = torch.empty(self._num_pairs, self._num_tiles, tiling.halo)
        # Rows begin at multiples of 16 bytes for any number of pairs: Triton compiles for either.
        aligned = math.ceil(self._num_pairs / 4) * 4
        per_pair = torch.zeros(5, aligned, dtype=torch.int32)[:, : self._num_pairs]
        self._at_u, self._at_p, self._todo, self._active, self.iterations = per_pair

    def solve(self) -> torch.Tensor:
        parameters, width = self._parameters, self._frames.shape[2]
        for _ in range(parameters.num_warps):
            self._linearise()
            self._active.fill_(1)
            for outer in range(parameters.outer_iterations):
                if outer and not self._active.any():  # the only time that the GPU is waited for
                    break
                if parameters.median > 1:
                    self._median()
                self._iterate()
        places = torch.arange(self._num_pairs)
        return self._u[self._at_u.long(), places, :, :, :width] * parameters.unit

    def _blocks(self) -> int:
        height, width, _ = self._size
        return triton.cdiv(height * width, self._tiling.block)

    def _linearise(self) -> None:
        kernels.linearise[self._blocks(), self._num_pairs](
            self._frames,
            self._seconds,
            self._u,
            self._slopes,
            self._at_u,
            self._pairs,
            self._num_pairs,
            *self._size,
            self._parameters.unit,
            self._parameters.smallest,
            BLOCK=self._tiling.block,
        )

    def _median(self) -> None:
        kernels.median[self._blocks(), 2, self._num_pairs](
            self._u,
            self._at_u,
            self._active,
            self._num_pairs,
            *self._size,
            SIZE=self._parameters.median,
            BLOCK=self._tiling.block,
        )
        self._at_u.bitwise_xor_(self._active)

    def _iterate(self) -> None:
        """Do the iterations between two median filters."""
        halo, left = self._tiling.halo, self._parameters.inner_iterations
        torch.mul(self._active, min(halo, left), out=self._todo)
        while left > 0:
            left -= halo
            self._sweep(max(min(halo, left), 0))
        self._sweep(0)  # of those that went too far in the last one

    def _sweep(self, next_todo: int) -> None:
        height, width, _ = self._size
        parameters, tiling = self._parameters, self._tiling
        options = {} if tiling.registers is None else {"maxnreg": tiling.registers}
        kernels.sweep[self._num_tiles, self._num_pairs](
            self._u,
            self._p,
            self._slopes,
            self._errors,
            self._at_u,
            self._at_p,
            self._todo,
            self._num_pairs,
            *self._size,
            self._across,
            parameters.limit,
            parameters.tau,
            TILE_Y=tiling.height,
            TILE_X=tiling.width,
            HALO=tiling.halo,
            num_warps=tiling.warps,
            **options,
        )
        kernels.decide[(self._num_pairs,)](
            self._errors,
            self._at_u,
            self._at_p,
            self._todo,
            self._active,
            self.iterations,
            self._num_tiles,
            next_todo,
            parameters.threshold(height, width),
            HALO=tiling.halo,
            TILES=triton.next_power_of_2(self._num_tiles),
            COUNTS=triton.next_power_of_2(tiling.halo),
        )
