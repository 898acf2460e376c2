"""docs/performance.md, the README's table and docs/speed.svg are what the last `make bench` has found."""

from __future__ import annotations

import json

import pytest
import speed
from pictures import styled


@pytest.fixture(scope="module")
def found():
    return json.loads(speed.FOUND.read_text(encoding="utf-8"))


def test_the_tables_are_what_was_found(found):
    assert speed.PAGE.read_text(encoding="utf-8") == speed.page(found), "run `make docs`"
    assert speed.page(found).count("foretick lean, learning off") >= 4 + 3  # throughput at four sizes, latency at three


def test_the_table_of_the_readme_is_what_was_found(found):
    assert speed.README.read_text(encoding="utf-8") == speed.readme(found), "run `make docs`"
    assert speed.readme(found).count("foretick, learning off |") == 1


def test_the_picture_is_what_was_found(found):
    assert speed.PICTURE.read_text(encoding="utf-8") == styled(speed.picture(found["throughput"])), "run `make docs`"
