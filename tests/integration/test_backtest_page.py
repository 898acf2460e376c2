"""`foretick backtest --html`: a page that stands by itself and says what the table says."""

from __future__ import annotations

import contextlib
import io
import json
import math
import re
from html.parser import HTMLParser
from types import SimpleNamespace

import pytest
import torch

from foretick.app import backtest
from foretick.app.settings import Settings
from foretick.errors import UsageError

SETTINGS = Settings(model={"hidden": 8}, season="none", horizon=2, learn={"enabled": False})
EVIL = "<b>&'\""
VOID = {"meta", "input"}


@pytest.fixture(scope="module")
def reported(tmp_path_factory):
    """Two series backtested, and one too short to be scored: the page, and what was printed as JSON."""
    folder = tmp_path_factory.mktemp("page")
    rows = [f"{name},{i * 60_000},{value!r}\n" for i in range(150) for name, value in values(i)]
    (folder / "a.csv").write_text("series,ts,value\n" + "".join(rows) + f"{EVIL},1,1\nwave,x,1\n")
    threads, printed = torch.get_num_threads(), io.StringIO()
    with contextlib.redirect_stdout(printed):
        assert backtest.run(SETTINGS, options(folder / "a.csv", folder / "out.html")) == 0
    torch.set_num_threads(threads)
    return (folder / "out.html").read_text(), json.loads(printed.getvalue())


def options(file, html):
    defaults = {"burn_in": 40, "by": None, "json": True, "plot": None, "series": EVIL, "verify": False}
    return SimpleNamespace(files=[str(file)], html=html, **defaults)


def values(i):
    return [("wave", math.sin(i / 5)), ("saw", (i * 7) % 5)]


class Balanced(HTMLParser):
    """Every element that is opened is closed, in order."""

    def __init__(self):
        super().__init__()
        self.open, self.pictures = [], 0

    def handle_starttag(self, tag, attrs):
        self.pictures += tag == "svg"
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.pictures += tag == "svg"

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_the_page_stands_by_itself_and_says_what_the_table_says(reported):
    text, found = reported
    reader = Balanced()
    reader.feed(text)
    reader.close()
    assert reader.open == []
    assert reader.pictures >= 1 + 3 + 2 * 3  # the ranking, a line for each series, three of each scored one
    assert not re.search(r"https?://|src=|@import|url\(", text)
    for name in ("wave", "saw"):
        one = found["series"][name]
        assert f'data-sort="{one["rel_mae"]!r}"' in text
        assert f'data-sort="{one["mae"]!r}"' in text
    assert f"{1 - found['summary']['gm']:+.1%}" in text
    assert "1 unusable" in text
    assert "<dt>horizon</dt><dd><code>2</code></dd>" in text
    assert f"<code>{torch.__version__}</code>" in text
    assert "2 steps ahead" in text


def test_names_are_text_whatever_they_contain(reported):
    text, _ = reported
    assert EVIL not in text
    assert "&lt;b&gt;&amp;&#x27;&quot;" in text
    assert "too short to be scored" in text


@pytest.mark.parametrize(("name", "why"), [("a.pdf", "ends with .html"), ("none/a.html", "there is no folder")])
def test_where_no_page_can_be_written_is_told_before_the_work(tmp_path, name, why):
    with pytest.raises(UsageError, match=why):
        backtest.run(SETTINGS, options("none.csv", tmp_path / name))
