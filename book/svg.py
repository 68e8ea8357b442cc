"""Matplotlib figures as inline SVG that takes its colours and font from the page around it."""

from __future__ import annotations

import hashlib
import html
import io
import re
from typing import Any

import matplotlib as mpl
from cycler import cycler
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from medlib.gallery.tiles import OKABE_ITO

CSS_PX_PER_INCH = 96
PAGE_FONT = "var(--pst-font-family-base, system-ui, sans-serif)"
PAGE_GROUND = "var(--pst-color-background, Canvas)"

STYLE: dict[str, Any] = {
    "font.size": 11,
    "axes.titlesize": 11,
    "legend.fontsize": 10,
    "legend.frameon": False,
    "legend.title_fontsize": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.prop_cycle": cycler(color=list(OKABE_ITO.values())),
    "grid.color": "black",  # becomes the page's text colour
    "grid.alpha": 0.15,
    "image.cmap": "cividis",
    "lines.linewidth": 1.8,
}


def new_figure(
    width_in: float = 5.6, height_in: float = 3.4, **subplots: Any
) -> tuple[Figure, Axes | Any]:
    """Open a figure in the book's style.

    5.6 inches of width keep the 11-point labels readable on a phone; `subplots` is passed to
    `matplotlib.figure.Figure.subplots` (``nrows``, ``ncols``, ``sharey`` ...). Matplotlib reads its
    settings whenever an artist is made, so the style stays set for the rest of the process.
    """
    mpl.rcParams.update(STYLE)  # type: ignore[arg-type]
    figure = Figure(figsize=(width_in, height_in), layout="constrained")
    return figure, figure.subplots(**subplots)


def inline_svg(fig: Figure, *, label: str) -> str:
    """Draw `fig` as an ``<svg role="img">`` element to be set into a page.

    Black becomes ``currentColor``, white becomes the page's ground (text keeps its white: it
    stands on a coloured cell), text takes the page's font, and every id carries a prefix made
    from the drawing, so that several figures share one page. The bytes depend on nothing but
    the figure and its label.

    Parameters
    ----------
    fig : Figure
    label : str
        What the figure shows, for those who cannot see it.

    Returns
    -------
    str
        SVG markup without XML declaration, date or creator.
    """
    buffer = io.StringIO()
    nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": "medlib"}):
        fig.savefig(buffer, format="svg", transparent=True, metadata=nothing)
    drawing = buffer.getvalue()
    body = drawing[drawing.index("<svg") :]
    body = body[body.index(">") + 1 :]
    # A style element would reach every other SVG of the page; its one rule moves to the root.
    body = re.sub(r"<style.*?</style>", "", body, flags=re.DOTALL)
    prefix = "f" + hashlib.sha256((label + body).encode()).hexdigest()[:10] + "-"
    body = re.sub(r'\bid="', f'id="{prefix}', body)
    body = re.sub(r'href="#', f'href="#{prefix}', body)
    body = body.replace("url(#", f"url(#{prefix}")
    body = re.sub(r"(fill|stroke): #ffffff", rf"\1: {PAGE_GROUND}", body)
    body = re.sub(
        r"<text\b[^>]*>",
        lambda tag: tag.group().replace(f"fill: {PAGE_GROUND}", "fill: #fefefe"),
        body,
    )
    body = body.replace("#000000", "currentColor")
    # The CSS font shorthand ends with the family; sizes and weights before it are kept.
    body = re.sub(r"(font: [^;\"]*?\d(?:\.\d+)?px) [^;\"]+", rf"\1 {PAGE_FONT}", body)
    body = re.sub(r"font-family: [^;\"]+", f"font-family: {PAGE_FONT}", body)
    width_in, height_in = fig.get_size_inches()
    return (
        f'<svg role="img" aria-label="{html.escape(label)}" xmlns="http://www.w3.org/2000/svg" '
        'xmlns:xlink="http://www.w3.org/1999/xlink" '
        f'viewBox="0 0 {width_in * 72:g} {height_in * 72:g}" fill="currentColor" '
        'stroke-linejoin="round" stroke-linecap="butt" '
        f'style="width:100%;max-width:{width_in * CSS_PX_PER_INCH:.0f}px;height:auto;'
        f'background:none">{body}'
    )
