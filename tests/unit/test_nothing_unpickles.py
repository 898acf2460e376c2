"""Nothing that is stored or sent can run code: no line of the package unpickles, and none does when state is read."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import foretick

if TYPE_CHECKING:
    from collections.abc import Iterator

PACKAGE = Path(foretick.__file__).parent
MODULES = {
    "pickle",
    "_pickle",
    "cPickle",
    "dill",
    "cloudpickle",
    "joblib",
    "marshal",
    "shelve",
    "multiprocessing",
    "yaml",
}
CALLS = {"eval", "exec", "compile", "__import__", "torch.load", "torch.save", "np.load", "np.save", "np.savez"}
CALLS |= {"numpy.load", "torch.jit.load", "torch.hub.load", "pd.read_pickle"}
WORDS = {"allow_pickle", "__reduce__", "__reduce_ex__", "__setstate__", "weights_only"}


def faults(source: str) -> Iterator[str]:
    for node in ast.walk(ast.parse(source)):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [node.module or "", *(f"{node.module}.{alias.name}" for alias in node.names)]
        yield from (name for name in names if name.partition(".")[0] in MODULES or name in CALLS)
        if isinstance(node, ast.Call) and ast.unparse(node.func) in CALLS:
            yield ast.unparse(node.func)
        yield from (word for word in WORDS if word in _identifiers(node))


def _identifiers(node: ast.AST) -> set[str]:
    return {getattr(node, field) for field in ("arg", "attr", "id", "name") if isinstance(getattr(node, field, 0), str)}


def test_no_line_of_the_package_unpickles_or_runs_what_it_reads() -> None:
    sources = sorted(PACKAGE.rglob("*.py"))
    assert len(sources) > 100
    found = {str(path.relative_to(PACKAGE)): list(faults(path.read_text())) for path in sources}
    assert {path: what for path, what in found.items() if what} == {}


@pytest.mark.parametrize(
    "line",
    [
        "import pickle",
        "from multiprocessing import Pool",
        "torch.load(path)",
        "np.load(path, allow_pickle=True)",
        "eval(text)",
    ],
)
def test_a_line_that_does_would_be_found(line: str) -> None:
    assert list(faults(line))


READ_STATE = """
import os, pickle, sys
import numpy as np
from foretick.app.states import Identity, State, pack_state, unpack_state
from foretick.core.engine import Engine
from foretick.core.recipe import Recipe
from foretick.core.records import Ticks
from foretick.ports.checkpoints import unpack

engine, other = Engine(Recipe(hidden=8)), Engine(Recipe(hidden=8))
n = 40
ms = np.arange(n, dtype=np.int64)
y = np.sin(ms / 3)
engine.advance(Ticks([b"a"] * n, ms, ms, np.zeros(n, np.bool_), y))

def forbid(event, arguments):
    if event.startswith("pickle.") or event in {"exec", "compile", "os.system", "subprocess.Popen"}:
        os.write(2, repr((event, arguments)).encode())
        os._exit(99)

identity = Identity("p", "h", {"default": engine.layout})
packed = pack_state(State(identity, {}, 1, {"default": engine.snapshot()}))
raw = b"".join(map(bytes, packed.pieces()))
sys.addaudithook(forbid)
other.restore(unpack_state(unpack(raw)).snapshots["default"])
os.write(1, b"read")
pickle.loads(b"cos\\nsystem\\n.")  # shows that the hook works
"""


def test_reading_a_checkpoint_neither_unpickles_nor_compiles() -> None:
    done = subprocess.run([sys.executable, "-c", READ_STATE], capture_output=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (99, b"read"), done.stderr.decode()[-2000:]
    assert b"pickle.find_class" in done.stderr
