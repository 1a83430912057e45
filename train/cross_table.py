"""Results over several splits as a table, for the terminal and for a page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from train.crossval import CrossResult

Cells = list[list[str]]


def cells(labels: Sequence[str], results: Mapping[tuple[str, ...], CrossResult]) -> Cells:
    """Return the cells of a table, its head first.

    Args:
        labels: Heads of the columns that tell the results apart.
        results: By what stands in these columns; all of the same splits.
    """
    first = next(iter(results.values()))
    pooled = any(result.pooled for result in results.values())
    timed = any(result.training_seconds for result in results.values())
    head = [*labels, *(f"split {split}" for split in first.top1), "mean"]
    rows = [head + ["pooled"] * pooled + ["training"] * timed]
    for names, result in results.items():
        row = [*names, *(percent(share) for share in result.top1.values())]
        spread = "" if result.spread is None else f" ± {100 * result.spread:.1f}"
        row.append(percent(result.mean) + spread)
        if pooled:
            row.append(_pooled(result))
        if timed:
            row.append(f"{result.training_seconds:.0f} s" if result.training_seconds else "")
        rows.append(row)
    return rows


def _pooled(result: CrossResult) -> str:
    if result.pooled is None:
        return ""
    right, total = result.pooled["right"], result.pooled["num_videos"]
    return f"{right} of {total}, {percent(result.pooled['top1'])}"


def percent(share: float) -> str:
    """Return a share as a percentage with one decimal.

    Examples:
        >>> percent(0.9629)
        '96.3%'
    """
    return f"{100 * share:.1f}%"


def text(rows: Cells, num_labels: int) -> str:
    """Return a table as lines of text, all columns but the labels to the right."""
    widths = [max(map(len, column)) for column in zip(*rows)]
    lines = []
    for row in rows:
        aligned = [
            cell.ljust(width) if place < num_labels else cell.rjust(width)
            for place, (cell, width) in enumerate(zip(row, widths))
        ]
        lines.append("  ".join(aligned).rstrip())
    return "\n".join(lines)


def markdown(rows: Cells, num_labels: int) -> str:
    """Return a table in Markdown, all columns but the labels to the right."""
    rule = ["---" if place < num_labels else "---:" for place in range(len(rows[0]))]
    return "".join(f"| {' | '.join(row)} |\n" for row in (rows[0], rule, *rows[1:]))
