"""The page of licences tells what is installed, and all of it is permissive."""

from __future__ import annotations

import runpy
from typing import TYPE_CHECKING, Any

import pytest

from servers import REPOSITORY

if TYPE_CHECKING:
    from collections.abc import Callable


@pytest.fixture(scope="module")
def script() -> dict[str, Any]:
    return runpy.run_path(str(REPOSITORY / "docs/scripts/licences.py"))


def test_the_page_has_every_package_that_foretick_runs_with(script: dict[str, Any]) -> None:
    rows = {line for line in script["page"]().splitlines() if line.startswith("| ")}
    told = set((REPOSITORY / "docs/licences.md").read_text().splitlines())
    assert rows - told == set(), "make docs"
    assert len(rows) > 25


def test_every_licence_is_permissive(script: dict[str, Any]) -> None:
    licence_of, parts_of = script["licence_of"], script["parts_of"]
    found = {name: parts_of(licence_of(package)) for name, (package, _) in script["runtime"]().items()}
    assert {name: parts for name, parts in found.items() if not parts or parts - script["PERMISSIVE"]} == {}


def test_a_licence_that_is_not_would_be_found(script: dict[str, Any]) -> None:
    parts_of: Callable[[str], set[str]] = script["parts_of"]
    assert parts_of("(MIT OR GPL-3.0-only) AND Zlib") - script["PERMISSIVE"] == {"GPL-3.0-only"}
