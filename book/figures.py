"""Figures, picture tiles and tables of the book: each with words for those who cannot see it.

Everything is published as HTML beside a plain text, which is what a terminal and a comparison
of notebook outputs read.
"""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Iterable, Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from IPython.display import publish_display_data
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image

from book.svg import inline_svg
from medlib.gallery.tiles import OKABE_ITO, Tile, overlay
from medlib.risk.intervals import Estimate

__all__ = ["OKABE_ITO", "Tile", "overlay", "show_figure", "show_images", "show_table"]

_FIGURE = "margin:1.25rem 0;padding:0;background:none;color:inherit"
_CAPTION = "margin-top:.5rem;text-align:left;font-size:.95em;color:inherit"


def show_figure(fig: Figure, *, alt: str, caption: str) -> None:
    """Show a matplotlib figure as inline SVG in the page's own colours and font.

    `fig` is best made by `new_figure`; it is closed afterwards. `alt` says what it shows, for those
    who cannot see it, `caption` what to see in it.

    Raises
    ------
    ValueError
        Where `alt` or `caption` is empty.
    """
    _require(alt=alt, caption=caption)
    svg = inline_svg(fig, label=alt)
    plt.close(fig)
    _publish(
        f'<figure class="medlib-figure" style="{_FIGURE}">{svg}{_figcaption(caption)}</figure>',
        plain=f"{caption} [{alt}]",
    )


def show_images(tiles: Sequence[Tile], *, caption: str, min_width_rem: float = 9.0) -> None:
    """Show pictures in a grid that wraps on a narrow page.

    `min_width_rem`, in root font sizes, is the narrowest tile; below it there are fewer columns.

    Raises
    ------
    ValueError
        Where there is no tile, or a tile's alt text or the caption is empty.
    """
    _require(caption=caption)
    if not tiles:
        raise ValueError("no tiles to show; expected at least one")
    for tile in tiles:
        _require(alt=tile.alt)
    cells = "".join(
        '<div style="min-width:0">'
        f'<img class="dark-light" src="{_data_uri(tile.image)}" alt="{html.escape(tile.alt)}" '
        'style="width:100%;height:auto;margin:0;padding:0;background:none;filter:none">'
        f'<div style="font-size:.9em;line-height:1.35">{html.escape(tile.label)}</div></div>'
        for tile in tiles
    )
    widest = max(tile.image.shape[1] for tile in tiles)
    grid = (
        "display:grid;gap:.75rem;align-items:start;"
        f"grid-template-columns:repeat(auto-fit,minmax(min(100%,{min_width_rem:g}rem),1fr));"
        f"max-width:{len(tiles) * (widest + 12)}px"
    )
    _publish(
        f'<figure class="medlib-images" style="{_FIGURE}"><div style="{grid}">{cells}</div>'
        f"{_figcaption(caption)}</figure>",
        plain="\n".join([caption, *(f"[{tile.alt}] {tile.label}".rstrip() for tile in tiles)]),
    )


def show_table(
    df: pd.DataFrame,
    *,
    caption: str,
    digits: int | Mapping[str, int] = 2,
    undefined: str = "undefined",
) -> None:
    """Show a table that scrolls sideways on a narrow page.

    An index that is only a count of the rows is left out. `digits` are the decimals of the columns
    of floating-point numbers (2 where a mapping names none); `undefined` stands for NaN and None.

    Raises
    ------
    ValueError
        Where `caption` is empty.
    """
    _require(caption=caption)
    names = ["" if name is None else str(name) for name in df.index.names]
    shown = df if isinstance(df.index, pd.RangeIndex) else df.reset_index(names=names)
    texts = pd.DataFrame(
        {
            str(name): [_cell(value, _places(digits, name), undefined) for value in values]
            for name, values in shown.items()
        }
    )
    sides = ["right" if _is_numeric(dtype) else "left" for dtype in shown.dtypes]

    def row(tag: str, cells: Iterable[str], scope: str = "") -> str:
        return "".join(
            f'<{tag}{scope} style="text-align:{side}">{html.escape(cell)}</{tag}>'
            for cell, side in zip(cells, sides, strict=True)
        )

    header = row("th", texts, ' scope="col"')
    rows = "".join(f"<tr>{row('td', cells)}</tr>\n" for cells in texts.itertuples(index=False))
    words = html.escape(caption)
    _publish(
        '<div class="medlib-table-scroll" role="region" tabindex="0" '
        f'aria-label="{words}" style="overflow-x:auto;max-width:100%;margin:1.25rem 0">'
        '<table class="medlib-table table">'
        f'<caption style="caption-side:top;text-align:left;color:inherit">{words}</caption>'
        f"<thead><tr>{header}</tr></thead>\n<tbody>\n{rows}</tbody></table></div>",
        plain=f"{caption}\n{texts.to_string(index=False)}",
    )


def _is_numeric(dtype: object) -> bool:
    return pd.api.types.is_numeric_dtype(dtype) and not pd.api.types.is_bool_dtype(dtype)


def _places(digits: int | Mapping[str, int], name: object) -> int:
    return digits.get(str(name), 2) if isinstance(digits, Mapping) else digits


def _cell(value: object, places: int, undefined: str) -> str:
    if value is None or value is pd.NA or value is pd.NaT:
        return undefined
    if isinstance(value, Estimate):
        return value.text(places)
    if isinstance(value, (bool, np.bool_)):
        return "yes" if value else "no"
    if isinstance(value, (float, np.floating)):
        if np.isnan(value):
            return undefined
        return f"{value:z,.{places}f}"
    if isinstance(value, (int, np.integer)):
        return f"{value:,d}"
    return str(value)


def _data_uri(image: NDArray[np.uint8]) -> str:
    if image.dtype != np.uint8:
        raise ValueError(f"a tile holds uint8 pixels, got {image.dtype}; scale it to 0..255 first")
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, format="PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


def _figcaption(caption: str) -> str:
    return f'<figcaption style="{_CAPTION}">{html.escape(caption)}</figcaption>'


def _require(**texts: str) -> None:
    for name, text in texts.items():
        if not text.strip():
            raise ValueError(f"{name} is empty; say in words what there is to see")


def _publish(markup: str, *, plain: str) -> None:
    publish_display_data({"text/html": markup, "text/plain": plain})
