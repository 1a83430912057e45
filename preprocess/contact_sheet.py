"""Contact sheets: what the shards hold of one video, on one picture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw

from preprocess import lettering
from tsn_core.flow_color import color_wheel
from tsn_core.modality import StoredModality
from tsn_core.picture import full_color_px, unit_picture

CELL_WIDTH = 200  # px, of one image on the sheet
_GAP, _MARGIN, _LABEL_WIDTH, _LEGEND = 6, 24, 190, 120
_TITLE, _TEXT, _SMALL = 22, 14, 12  # sizes of letters, in px
_PAPER, _INK, _PALE, _WARNING = "#ffffff", "#1c2024", "#68707a", "#a33b00"


@dataclass(frozen=True)
class Strip:
    """What one modality has of a video.

    Attributes:
        modality: How it was stored.
        folder: Name of its folder.
        units: The first unit of each snippet shown, (K, H, W, C) uint8.
        frames: The source frame of each, (K,).
    """

    modality: StoredModality
    folder: str
    units: np.ndarray
    frames: np.ndarray


@dataclass(frozen=True)
class _Row:
    label: str
    detail: str
    pictures: list[np.ndarray]
    frames: np.ndarray


def contact_sheet(
    title: str, subtitle: str, strips: Sequence[Strip], fps: float, remarks: Sequence[str] = ()
) -> Image.Image:
    """Return a contact sheet.

    Each modality has a row of snippets, flow three of them: in colours, and x and y as gray images.

    Args:
        title: The video's name, in large letters.
        subtitle: Its class and the like.
        strips: Of each modality, at least one.
        fps: Frame rate in Hz, 0 where unknown: times are shown beside the frames' numbers.
        remarks: Lines at the foot, such as what is suspicious.
    """
    rows = [row for strip in strips for row in _rows(strip)]
    columns = max(len(row.pictures) for row in rows)
    width = 2 * _MARGIN + _LABEL_WIDTH + columns * (CELL_WIDTH + _GAP)
    has_flow = [strip for strip in strips if full_color_px(strip.modality) is not None]
    if has_flow:
        width += _LEGEND + _MARGIN
    heights = [_cell_height(row.pictures) + _SMALL + 2 * _GAP for row in rows]
    foot = len(remarks) * (_TEXT + _GAP)
    top = _MARGIN + _TITLE + _TEXT + 3 * _GAP
    sheet = Image.new("RGB", (width, top + sum(heights) + foot + _MARGIN), _PAPER)
    draw = ImageDraw.Draw(sheet)
    _write(draw, (_MARGIN, _MARGIN), title, _TITLE, _INK, width - 2 * _MARGIN, bold=True)
    _write(draw, (_MARGIN, _MARGIN + _TITLE + _GAP), subtitle, _TEXT, _PALE, width - 2 * _MARGIN)
    y = top
    for row, height in zip(rows, heights):
        _draw_row(sheet, draw, row, y, fps)
        y += height
    for remark in remarks:
        _write(draw, (_MARGIN, y), f"! {remark}", _TEXT, _WARNING, width - 2 * _MARGIN)
        y += _TEXT + _GAP
    if has_flow:
        first = next(number for number, row in enumerate(rows) if row.label == has_flow[0].folder)
        place = (width - _MARGIN - _LEGEND, top + sum(heights[:first]))
        _draw_legend(sheet, draw, place, full_color_px(has_flow[0].modality) or 1.0)
    return sheet


def _rows(strip: Strip) -> list[_Row]:
    modality = strip.modality
    height, width = strip.units.shape[1:3]
    detail = f"{width}x{height}, {modality.codec}{modality.quality or ''}"
    pictures = [unit_picture(unit, modality) for unit in strip.units]
    rows = [_Row(strip.folder, detail, pictures, strip.frames)]
    if full_color_px(modality) is not None:
        bound = 127.5 * modality.scale
        for channel, axis in enumerate("xy"):
            planes = [np.repeat(unit[..., channel, None], 3, axis=-1) for unit in strip.units]
            rows.append(
                _Row(axis, f"black −{bound:.3g} px, white +{bound:.3g} px", planes, strip.frames)
            )
    return rows


def _cell_height(pictures: Sequence[np.ndarray]) -> int:
    return max(round(CELL_WIDTH * picture.shape[0] / picture.shape[1]) for picture in pictures)


def _draw_row(sheet: Image.Image, draw: ImageDraw.ImageDraw, row: _Row, y: int, fps: float) -> None:
    _write(draw, (_MARGIN, y), row.label, _TEXT, _INK, _LABEL_WIDTH - _GAP, bold=True)
    _write(draw, (_MARGIN, y + _TEXT + 4), row.detail, _SMALL, _PALE, _LABEL_WIDTH - _GAP)
    height = _cell_height(row.pictures)
    for column, (picture, frame) in enumerate(zip(row.pictures, row.frames)):
        x = _MARGIN + _LABEL_WIDTH + column * (CELL_WIDTH + _GAP)
        cell = Image.fromarray(np.ascontiguousarray(picture))
        cell = cell.resize((CELL_WIDTH, height), Image.Resampling.LANCZOS)
        sheet.paste(cell, (x, y))
        time = f"  {frame / fps:.2f} s" if fps else ""
        _write(draw, (x, y + height + 3), f"frame {frame}{time}", _SMALL, _PALE, CELL_WIDTH)


def _draw_legend(
    sheet: Image.Image, draw: ImageDraw.ImageDraw, place: tuple[int, int], pixels: float
) -> None:
    x, y = place
    large = Image.fromarray(color_wheel(4 * _LEGEND))
    sheet.paste(large.resize((_LEGEND, _LEGEND), Image.Resampling.LANCZOS), (x, y))
    _write(draw, (x, y + _LEGEND + _GAP), f"rim: {pixels:.3g} px/frame", _SMALL, _PALE, _LEGEND)
    _write(draw, (x, y + _LEGEND + _SMALL + 2 * _GAP), "faster is darker", _SMALL, _PALE, _LEGEND)


def _write(
    draw: ImageDraw.ImageDraw,
    place: tuple[int, int],
    text: str,
    size: int,
    color: str,
    width: int,
    bold: bool = False,
) -> None:
    """Write one line; what does not fit is left out of its middle."""
    font = lettering.font(size, bold=bold)
    text = lettering.plain(text)
    kept = text
    keep = len(text)
    while draw.textlength(kept, font=font) > width and keep > 2:
        keep -= 1
        kept = f"{text[: keep - keep // 2]}…{text[len(text) - keep // 2 :]}"
    draw.text(place, kept, fill=color, font=font)
