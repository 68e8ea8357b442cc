from __future__ import annotations

import base64
import io
import re

import numpy as np
import pandas as pd
import pytest
from bs4 import BeautifulSoup
from PIL import Image

from book import figures
from book.figures import show_figure, show_images, show_table
from book.svg import inline_svg, new_figure
from medlib.gallery.tiles import Tile
from medlib.risk.intervals import Estimate

rng = np.random.default_rng


@pytest.fixture
def published(monkeypatch):
    """Collect what is displayed instead of showing it."""
    seen = []
    monkeypatch.setattr(figures, "publish_display_data", seen.append)
    return seen


def example_figure():
    fig, ax = new_figure()
    ax.plot([0, 1], [0, 1], label="line")
    ax.scatter([0, 1], [1, 0], color="white", edgecolor="black")
    ax.text(0.5, 0.5, "on a cell", color="white")
    ax.fill_between([0, 1], [0, 1], color="black", alpha=0.2)
    ax.imshow(np.eye(4), extent=(0, 1, 0, 1))
    ax.grid(True)
    ax.set_xlabel("false alarms a scan")
    ax.legend()
    return fig


def test_svg_follows_the_page():
    svg = inline_svg(example_figure(), label="a line")
    for fixed in ("#000000", "#ffffff", "black", "white", "DejaVu", "<style", "<metadata", "Date"):
        assert fixed not in svg, fixed
    assert "currentColor" in svg
    assert "--pst-color-background" in svg
    assert "fill: #fefefe" in svg, "white text on a coloured cell must stay white"
    assert "--pst-font-family-base" in svg
    assert ">false alarms a scan</text>" in svg, "text stays text"
    BeautifulSoup(svg, "html.parser").svg["viewbox"]


def test_svg_bytes_are_the_same_every_time():
    assert inline_svg(example_figure(), label="x") == inline_svg(example_figure(), label="x")


def test_two_svgs_on_one_page_share_no_id():
    one = inline_svg(example_figure(), label="one")
    other = inline_svg(example_figure(), label="other")
    ids = [set(re.findall(r'\bid="([^"]+)"', svg)) for svg in (one, other)]
    assert ids[0]
    assert ids[0].isdisjoint(ids[1])
    for svg, own in zip((one, other), ids, strict=True):
        references = set(re.findall(r'href="#([^"]+)"', svg)) | set(
            re.findall(r"url\(#(.*?)\)", svg)
        )
        assert references
        assert references <= own, "a reference points to an id of its own drawing"


def test_show_figure(published):
    show_figure(example_figure(), alt='FROC "curve" & more', caption="Look < here")
    (bundle,) = published
    page = BeautifulSoup(bundle["text/html"], "html.parser")
    assert page.figure.svg["role"] == "img"
    assert page.figure.svg["aria-label"] == 'FROC "curve" & more'
    assert page.figcaption.text == "Look < here"
    assert bundle["text/plain"] == 'Look < here [FROC "curve" & more]'


@pytest.mark.parametrize(("alt", "caption"), [("", "words"), ("words", " "), ("\n", "words")])
def test_a_figure_without_words_is_refused(published, alt, caption):
    with pytest.raises(ValueError, match="is empty"):
        show_figure(example_figure(), alt=alt, caption=caption)
    with pytest.raises(ValueError, match="is empty"):
        show_images([Tile(np.zeros((4, 4, 3), np.uint8), alt)], caption=caption)
    assert not published


def test_images_carry_their_pixels_and_words(published):
    image = rng(0).integers(0, 255, (8, 6, 3)).astype(np.uint8)
    show_images(
        [Tile(image, 'a "noisy" tile', "noise"), Tile(image[..., 0], "grey")], caption="Two"
    )
    page = BeautifulSoup(published[0]["text/html"], "html.parser")
    first, second = page.find_all("img")
    assert first["alt"] == 'a "noisy" tile'
    stored = base64.b64decode(first["src"].removeprefix("data:image/png;base64,"))
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(stored))), image)
    assert second["alt"] == "grey"
    assert "noise" in page.figure.text


def test_images_refuse_what_cannot_be_shown(published):
    with pytest.raises(ValueError, match="at least one"):
        show_images([], caption="none")
    with pytest.raises(ValueError, match="uint8"):
        show_images([Tile(np.zeros((4, 4)), "floats")], caption="floats")


def test_table_rounds_counts_and_names_the_undefined(published):
    df = pd.DataFrame(
        {"n": [3, 12], "dice": [0.81234, np.nan], "hit": [True, False], "error": [-0.0001, 1234.5]},
        index=pd.Index(["<b>", "tune"], name="part"),
    )
    show_table(df, caption="Parts", digits={"dice": 3})
    page = BeautifulSoup(published[0]["text/html"], "html.parser")
    rows = [[cell.text for cell in row.find_all(["th", "td"])] for row in page.tbody.find_all("tr")]
    assert rows == [
        ["<b>", "3", "0.812", "yes", "0.00"],
        ["tune", "12", "undefined", "no", "1,234.50"],
    ]
    assert page.caption.text == "Parts"
    assert "medlib-table" in page.table["class"]
    assert published[0]["text/plain"].startswith("Parts\n")
    with pytest.raises(ValueError, match="caption"):
        show_table(df, caption="")


def test_estimates_take_the_decimals_of_their_column_and_words_stand_left(published):
    df = pd.DataFrame(
        {
            "found": [True, False],
            "scans": pd.array([12345, None], dtype="Int64"),
            "rate": [Estimate(33.61, 31.35, 36.12, 9), Estimate(np.nan, np.nan, np.nan, 0)],
        }
    )
    show_table(df, caption="Three kinds", digits={"rate": 0}, undefined="-")
    rows = BeautifulSoup(published[0]["text/html"], "html.parser").select("tbody tr")
    cells = [[cell.text for cell in row.select("td")] for row in rows]
    assert cells == [["yes", "12,345", "34 (31 to 36)"], ["no", "-", "undefined"]]
    sides = [cell["style"].removeprefix("text-align:") for cell in rows[0].select("td")]
    assert sides == ["left", "right", "left"]


def test_table_without_a_named_index_shows_none(published):
    show_table(pd.DataFrame({"a": [1]}), caption="One")
    page = BeautifulSoup(published[0]["text/html"], "html.parser")
    assert [cell.text for cell in page.tbody.find_all(["th", "td"])] == ["1"]
