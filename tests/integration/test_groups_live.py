"""Two groups in one daemon: forecasts, metrics, checkpoints, and what may change from one start to the next."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

from foretick.app.backtest.running import fresh_engine
from foretick.app.checkpointing import Checkpointer
from foretick.app.groups import settings_of
from foretick.app.learning import trainer_process
from foretick.app.marks import Mark
from foretick.app.restoring import Restoring, Standing
from foretick.app.settings_load import load
from foretick.app.settings_sources import Flag
from foretick.app.states import Identity
from foretick.cli import main
from foretick.core.engine import Engine
from foretick.core.groups import GroupedEngine
from foretick.errors import StateUnreadable
from foretick.ports.checkpoints import FolderStore
from foretick.ports.telemetry import Telemetry
from foretick.ports.trainer import TrainerProcess
from foretick.ports.wire import decode, keyed
from servers import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    import redis

    from foretick.app.settings import Settings
    from servers import DaemonProcess, Server

FORECASTS = "foretick:{ticks}:forecasts"
GROUPS = {"boiler-*": {"hidden": 16, "layers": 2, "season": "none", "learn.every": 4}}


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """As the loop runs it; two threads on small matrices are ten times slower."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def settings(groups: dict[str, Any], **more: Any) -> Settings:
    chosen = {"groups": json.dumps(groups), "model.hidden": 8, **more}
    return load([Flag(name, value, f"--set {name}") for name, value in chosen.items()], environ={}).settings


def push(client: redis.Redis, first: int, n: int) -> None:
    """Two boilers and a pump in turn."""
    pipe = client.pipeline(transaction=False)
    for i in range(first, first + n):
        name = ("boiler-1", "boiler-2", "pump-1")[i % 3]
        fields = {"series": name, "value": (i * 7919) % 1000 / 8 + (i % 3) * 100}
        pipe.xadd("ticks", fields, id=f"{1_700_000_000_000 + i}-0")
    pipe.execute()


def forecasts(client: redis.Redis) -> list[tuple[bytes, float]]:
    return [(entry_id, float(fields[b"yhat"])) for entry_id, fields in client.xrange(FORECASTS)]


def expected(client: redis.Redis, chosen: Settings) -> list[tuple[bytes, float]]:
    entries = [[i, [part for pair in fields.items() for part in pair]] for i, fields in client.xrange("ticks")]
    decoded = decode(entries, [b"ticks"] * len(entries))
    yhat = fresh_engine(chosen).advance(keyed(decoded)).yhat
    return list(zip(decoded.ids, yhat.tolist(), strict=True))


def scraped(daemon: DaemonProcess, name: str) -> dict[str, float]:
    """A metric's value by group."""
    found = re.findall(rf"^foretick_{name}\{{(.*)\}} (\S+)$", daemon.get("/metrics")[1], re.MULTILINE)
    return {re.search(r'group="([^"]*)"', labels)[1]: float(value) for labels, value in found}


@pytest.mark.redis
def test_two_groups_forecast_are_measured_and_go_on_with_changed_settings_that_shape_nothing(
    redis_server: Server, start_daemon: Callable[..., DaemonProcess]
) -> None:
    client = redis_server.client()
    push(client, 0, 150)
    daemon = start_daemon(redis_server.url, model__hidden=8, groups=json.dumps(GROUPS), learn__trainer="process")
    wait_until(lambda: client.xlen(FORECASTS) == 150, 30)
    assert forecasts(client) == expected(client, settings(GROUPS))
    wait_until(lambda: scraped(daemon, "scored_total") == {"boiler-*": 98, "default": 49}, 10)
    assert scraped(daemon, "series_active") == {"boiler-*": 2, "default": 1}
    errors = scraped(daemon, "naive_scaled_abs_error_total")
    assert errors["boiler-*"] > errors["default"] > 0
    assert daemon.terminate() == 0

    changed = {"boiler-*": {"hidden": 16, "layers": 2, "season": "24h", "learn.every": 32, "learn.enabled": False}}
    daemon.settings |= {"groups": json.dumps(changed), "learn__trainer": "inline"}
    daemon.start()
    assert "state_restored" in daemon.output()
    push(client, 150, 60)
    wait_until(lambda: client.xlen(FORECASTS) == 210, 30)
    wait_until(lambda: scraped(daemon, "scored_total") == {"boiler-*": 138, "default": 69}, 10)
    assert daemon.terminate() == 0

    daemon.settings |= {"groups": json.dumps({"boiler-*": {"hidden": 16, "layers": 1}})}
    daemon.start(ready=False)
    assert daemon.wait() == 4
    assert "layers was 2, is 1 in group boiler-*" in daemon.output()
    assert "--discard-state" in daemon.output()


class Life:
    """One daemon's life on a folder of checkpoints, without a loop, and without learning, which takes long."""

    def __init__(self, folder: Path, groups: dict[str, Any]) -> None:
        made = fresh_engine(settings(groups, **{"learn.enabled": False}))
        self.engine = made
        self.engines = made.engines if isinstance(made, GroupedEngine) else {made.group: made}
        self._store = FolderStore(folder, b"foretick", b"default")
        identity = Identity("default", "h", {group: engine.layout for group, engine in self.engines.items()})
        self.restored = Restoring(self._store, identity, Telemetry()).restore(
            self.engines, Standing({b"ticks": b"9-0"}), lambda _: None, lambda: None
        )

    def advance(self) -> None:
        series = [b"ticks\0" + name for name in (b"boiler-1", b"pump-1", b"kiln-1")] * 40
        at = np.arange(len(series))
        y = np.random.default_rng(1).standard_normal(len(series))
        entries = [[b"%d-0" % i, [b"value", b"%r" % float(v)]] for i, v in zip(at, y, strict=True)]
        ticks = keyed(decode(entries, [b"ticks"] * len(entries)))
        self.engine.advance(type(ticks)(series, ticks.ms, ticks.ts, ticks.stamped, ticks.y))

    def end(self) -> None:
        keeper = Checkpointer(
            self._store, self.engines, partition="default", history="h", every_seconds=60, telemetry=Telemetry()
        )
        keeper.finish([Mark(b"ticks", b"9-0", 9)], lambda _: None, lambda: None, 0.1)
        keeper.close()

    def counts(self) -> dict[str, int]:
        return {group: engine.series_count for group, engine in self.engines.items()}


BOTH = {"boiler-*": {"hidden": 16}, "pump-*": {"layers": 2}}


@pytest.fixture
def kept(tmp_path: Path) -> Path:
    """A folder with a checkpoint of both groups."""
    life = Life(tmp_path, BOTH)
    assert not life.restored
    life.advance()
    life.end()
    return tmp_path


def test_all_groups_are_restored(kept: Path) -> None:
    life = Life(kept, BOTH)
    assert life.restored
    assert life.counts() == {"boiler-*": 1, "pump-*": 1, "default": 1}


@pytest.mark.parametrize(
    ("groups", "told"),
    [
        ({"boiler-*": {"hidden": 16}}, r"group pump-\* is gone"),
        ({}, r"group boiler-\* is gone; group pump-\* is gone"),
        ({"boiler-?": {"hidden": 16}, "pump-*": {"layers": 2}}, r"group boiler-\* is gone"),
        (dict(reversed(BOTH.items())), r"groups stood in the order 'boiler-\*', 'pump-\*', 'default'"),
        (BOTH | {"pump-*": {"layers": 3}}, r"layers was 2, is 3 in group pump-\*\."),
        (BOTH | {"pump-*": {"layers": 2, "hidden": 24}}, r"hidden was 8, is 24 in group pump-\*\."),
    ],
)
def test_series_that_would_be_with_another_network_are_a_refusal_with_the_way_out(
    kept: Path, groups: dict[str, Any], told: str
) -> None:
    with pytest.raises(StateUnreadable, match=rf"{told}.*--discard-state") as error:
        Life(kept, groups)
    assert error.value.exit_code == 4


def test_a_group_that_came_begins_anew_beside_those_that_go_on(kept: Path) -> None:
    life = Life(kept, {"kiln-*": {}, **BOTH})
    assert life.counts() == {"kiln-*": 0, "boiler-*": 1, "pump-*": 1, "default": 1}
    life.advance()
    assert life.counts() == {"kiln-*": 1, "boiler-*": 1, "pump-*": 1, "default": 1}


def test_the_first_group_of_a_daemon_without_any_leaves_the_others_their_state(tmp_path: Path) -> None:
    life = Life(tmp_path, {})
    assert isinstance(life.engine, Engine), "nothing stands between where there are no groups"
    life.advance()
    life.end()
    assert Life(tmp_path, {"boiler-*": {}}).counts() == {"boiler-*": 0, "default": 3}


def test_a_backtest_has_the_same_groups(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    y = np.random.default_rng(5).standard_normal((80, 2)).cumsum(axis=0)
    boilers, pumps = (
        [f"{name},{3_600_000 * t},{y[t, i]}" for t in range(80)] for i, name in enumerate(("boiler-1", "p"))
    )
    path = tmp_path / "ticks.csv"

    def mae(lines: list[str], *flags: str) -> dict[str, float]:
        path.write_text("\n".join(["series,ts,value", *lines]))
        chosen = [part for flag in ("model.hidden=8", *flags) for part in ("--set", flag)]
        assert main(["backtest", str(path), "--json", "--burn-in", "30", *chosen]) == 0
        return {name: one["mae"] for name, one in json.loads(capsys.readouterr().out)["series"].items()}

    apart = mae(boilers, "model.hidden=16", "model.layers=2", "season=none", "learn.every=4") | mae(pumps)
    assert (
        mae([row for pair in zip(boilers, pumps, strict=True) for row in pair], f"groups={json.dumps(GROUPS)}") == apart
    )


def test_every_group_has_the_recipe_of_its_settings() -> None:
    chosen = settings(GROUPS)
    engine = fresh_engine(chosen)
    assert isinstance(engine, GroupedEngine)
    boilers, others = (engine.engines[group].recipe for group in ("boiler-*", "default"))
    assert (boilers.hidden, boilers.layers, boilers.learn.every, boilers.season.durations_ms) == (16, 2, 4, ())
    assert (others.hidden, others.layers, others.learn.every, others.season.durations_ms) == (8, 1, 8, None)
    assert settings_of(chosen, "default") == chosen


@pytest.mark.skipif(not TrainerProcess.is_supported(), reason="learning is inline on this system")
def test_a_trainer_is_there_as_soon_as_any_group_learns() -> None:
    off = {"learn.enabled": False}
    with trainer_process(settings({"a*": {"hidden": 16}}, **off), Telemetry()) as process:
        assert process is None
    with trainer_process(settings({"a*": {"learn.enabled": True}}, **off), Telemetry()) as process:
        assert process is not None
