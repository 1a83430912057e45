"""Walking through the Huffman code of a gray JPEG, to find where a block begins.

Source: ITU-T T.81, annex F.2 (decoding) and C (tables).
"""

# Numba's types, of which mypy knows nothing.
# mypy: ignore-errors

import numpy as np
from numba import njit

DAMAGED = -1
_LONGEST = 16  # bits of a code


@njit(nogil=True, cache=True)
def _peek(data, bit, count):
    """Return ``count`` bits from a place on; beyond the end there are ones."""
    value = 0
    for place in range(bit, bit + count):
        byte = place >> 3
        one = 1 if byte >= data.size else (data[byte] >> (7 - (place & 7))) & 1
        value = (value << 1) | one
    return value


@njit(nogil=True, cache=True)
def walk(data, num_blocks, dc_table, ac_table, stops):
    """Walk through the blocks of a scan without stuffed bytes.

    Args:
        data: The scan, (n,) uint8.
        num_blocks: That it must hold.
        dc_table: By the next 16 bits: ``length << 8 | symbol`` of the code, 0 for none; (65536,).
        ac_table: The same for the other coefficients.
        stops: Numbers of blocks to tell of, rising, (S,).

    Returns:
        (S + 1, 3) int64: of each such block the bit at which it begins, the bit behind its DC
        difference, and its DC value; at last the end of the scan, twice, and the last DC value.
        The first entry is -1 where the scan is damaged.
    """
    found = np.zeros((stops.size + 1, 3), np.int64)
    bit, value, stop = 0, 0, 0
    end = data.size * 8
    for block in range(num_blocks):
        begin = bit
        entry = dc_table[_peek(data, bit, _LONGEST)]
        size = entry & 255
        if entry == 0 or size > 11:
            found[0, 0] = DAMAGED
            return found
        bit += entry >> 8
        if size:
            difference = _peek(data, bit, size)
            if difference < 1 << (size - 1):
                difference -= (1 << size) - 1
            value += difference
            bit += size
        if stop < stops.size and block == stops[stop]:
            found[stop] = (begin, bit, value)
            stop += 1
        coefficient = 1
        while coefficient < 64:
            entry = ac_table[_peek(data, bit, _LONGEST)]
            if entry == 0:
                found[0, 0] = DAMAGED
                return found
            bit += entry >> 8
            symbol = entry & 255
            run, size = symbol >> 4, symbol & 15
            if size == 0:
                if run != 15:  # the rest of the block is zero
                    break
                coefficient += 16
                continue
            coefficient += run + 1
            bit += size
        if coefficient > 64 or bit > end:
            found[0, 0] = DAMAGED
            return found
    found[stops.size] = (bit, bit, value)
    return found
