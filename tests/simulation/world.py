"""One seed: daemons, producers and a fake Redis in virtual time, with faults; and what must hold afterwards."""

from __future__ import annotations

import contextlib
import random
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import structlog
from cheap_engine import CheapEngine
from fake_redis import FakeRedis, Refused, Stream
from network import Fate, Network, Road
from virtual_time import BEGIN_SECONDS, Host, Stuck, VirtualStop, VirtualTime, everywhere

from foretick.app.answers import Limits
from foretick.app.commits import Committer
from foretick.app.keeping import Keeping
from foretick.app.partition import Partition
from foretick.app.patience import Patience
from foretick.core.engine import Engine
from foretick.core.learner import InlineTrainer
from foretick.core.recipe import LearnRecipe, Recipe
from foretick.ports import wire
from foretick.ports.checkpoints import RedisStore
from foretick.ports.connection import RedisConnection
from foretick.ports.endpoints import Health
from foretick.ports.leases import Lease
from foretick.ports.positions import StreamKeys
from foretick.ports.streams import Exchange
from foretick.ports.telemetry import Telemetry
from foretick.ports.wire import FieldNames, checkpoint_key, lease_key, origin_key
from recount import Recount

if TYPE_CHECKING:
    from fake_redis import Session
    from network import Link

PREFIX, PARTITION = b"foretick", b"default"
LEASE, ORIGIN, CHECKPOINT = (make(PREFIX, PARTITION) for make in (lease_key, origin_key, checkpoint_key))
MANIFEST = CHECKPOINT + b":manifest"
ACTIVE_SECONDS = 6.0  # in which ticks come and things break
CALM_SECONDS = 120.0  # virtual; until then all must be answered
SETTLE_SECONDS = 3.0  # virtual; in which counts are put right that were wrong while all was drained
SWITCHES_MAX = 60_000  # a usual seed takes two thousand
EARLIER_IDS = 1000  # ms; below it are ids that a stream created anew brings
LINES_MAX = 400  # of the log; a usual seed has thirty
RECIPE = Recipe(
    hidden=8,
    window=17,
    cold_ticks=2,
    linear=(),
    readout=None,
    learn=LearnRecipe(every=4, early_every=2, chunk=4, depth=2),
)

FATES = ("request cut", "reply cut", "request late", "reply late", "crash", "pause")
GENTLE = ("refuse", "refuse", "restart", "vanish", "destroy group", "foreign entry", "drop lease", "terminate", "usurp")
LOSSY = ("go back", "create anew", "delete", "flush", "trim")


@dataclass(slots=True)
class Plan:
    """What a seed is about."""

    ttl_seconds: float
    streams: list[bytes]
    count: int
    checkpoint_seconds: float
    daemons: int
    is_real: bool
    tick_seconds: float
    fate_share: float
    faults: list[str]
    latest: bool

    @staticmethod
    def draw(rng: random.Random) -> Plan:
        is_real = rng.random() < 0.1
        faults = rng.choices(GENTLE, k=rng.randint(0, 6))
        if rng.random() < 0.25:
            faults.append(rng.choice(LOSSY))  # of two, one may hide the other
        ttl_seconds = rng.choice([0.6, 1.0, 3.0, 10.0])
        return Plan(
            ttl_seconds=ttl_seconds,
            streams=[b"ticks", b"b", b"c"][: 1 if is_real else rng.choice([1, 1, 2, 3])],
            count=rng.choice([3, 20, 500]),
            checkpoint_seconds=rng.choice([0.0, 0.5, 2.0]),
            daemons=rng.choice([1, 2, 2, 3]),
            is_real=is_real,
            tick_seconds=rng.choice([0.0, 0.0, 0.0, ttl_seconds / 2000, ttl_seconds / 200]),
            fate_share=rng.choice([0.0, 0.01, 0.05, 0.15]),
            faults=faults,
            latest=rng.random() < 0.8,
        )


@dataclass
class Report:
    """What became of a seed."""

    seed: int
    plan: Plan
    ticks: int = 0
    switches: int = 0
    commands: int = 0
    faults: Counter[str] = field(default_factory=Counter)
    violations: list[str] = field(default_factory=list)
    lines: list[dict[str, Any]] = field(default_factory=list)


class Daemon:
    """A process with one partition, real from `Partition` down to the bytes on the wire."""

    def __init__(self, world: World, number: int) -> None:
        self.owner = f"owner{number}"
        self.host = Host(self.owner)
        self.stop = VirtualStop(world.time)
        self._world = world
        plan, telemetry, health = world.plan, world.telemetry, Health()
        block_seconds = min(1.0, plan.ttl_seconds / 3)
        lease = Lease(LEASE, self.owner, int(plan.ttl_seconds * 1000), ORIGIN)
        patience = Patience(self.stop, health, min(1.0, plan.ttl_seconds / 3))  # type: ignore[arg-type]
        committer = Committer(Exchange(self._connection(block_seconds + 2.0), lease), patience, telemetry)
        self.partition = Partition(
            PARTITION.decode(),
            committer,
            [StreamKeys.of(stream, PREFIX, PARTITION) for stream in plan.streams],
            world.make_engine,
            start="earliest",
            fields=FieldNames(),
            limits=Limits(count=plan.count, block_ms=int(block_seconds * 1000), latest=plan.latest),
            telemetry=telemetry,
            health=health,
            garbage=NoGarbage(),  # type: ignore[arg-type]
            keeping=Keeping(
                PARTITION.decode(),
                CHECKPOINT,
                lambda: RedisStore(self._connection(5.0), CHECKPOINT, 1 << 26),
                committer,
                every_seconds=plan.checkpoint_seconds,
                telemetry=telemetry,
            )
            if plan.checkpoint_seconds
            else None,
        )
        self.actor = world.time.spawn(self.host, self.owner, self.partition.run)

    def _connection(self, timeout_seconds: float) -> RedisConnection:
        made = RedisConnection("redis://fake", timeout_seconds=timeout_seconds)
        made._route = Road(self._world.network, self.host, timeout_seconds)
        return made


class NoGarbage:
    """In the place of `GarbageRounds`: a collection takes longer than a seed."""

    def between_turns(self, *, idle: bool) -> None:
        pass


class World:
    """Everything of one seed."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.plan = Plan.draw(self.rng)
        self.time = VirtualTime(self.rng)
        self.report = Report(seed, self.plan)
        skew_ms = self.rng.choice([0.0, 0.0, 1500.0, -86_400_000.0])  # server's clock minus ours
        self.server = FakeRedis(lambda: (BEGIN_SECONDS + self.time.now) * 1000 + skew_ms)
        self.server.on_write = self._check_write
        self.network = Network(self.time, self.server, self.rng, self._fate)
        self.telemetry = Telemetry()
        self.daemons: list[Daemon] = []
        self._made = 0
        self._is_calm = False
        # What the engine knew may not be in the stream any more; or no witness of the position is left: then answers
        # that were set aside are given again.
        self._is_relaxed = {"foreign entry", "destroy group"} <= set(self.plan.faults)
        self._foreign = 0
        self._image: Any = None

    # The run.

    def run(self) -> Report:
        with everywhere(self.time, self.rng), structlog.testing.capture_logs([self._sign]) as lines:
            try:
                self._live()
            except Stuck as error:
                self.report.violations.append(f"stuck: {error}")
            finally:
                self.time.end()
                self.report.violations += [f"{type(e).__name__}: {e}" for e in self.time.errors]
                self.report.lines = lines
                self.report.switches, self.report.commands = self.time.switches, self.server.commands
            if len(lines) > LINES_MAX:
                self.report.violations.append(f"{len(lines)} lines in the log")
            if not self.report.violations:
                self.report.violations += self._verdict()
        return self.report

    def _sign(self, _logger: Any, _method: str, line: Any) -> Any:
        """A line of the log says who wrote it, and when."""
        host = self.time.host
        return {"at": round(self.time.now, 3), "host": host.name if host else ""} | line

    def _live(self) -> None:
        plan, rng, time = self.plan, self.rng, self.time
        for _ in range(plan.daemons):
            self._enlist()
        self._produce()
        for fault in plan.faults:
            time.at(rng.uniform(0.0, ACTIVE_SECONDS), lambda fault=fault: self._strike(fault))
        time.run(self._look_after, ACTIVE_SECONDS, SWITCHES_MAX)
        self._is_calm = True
        self.network.is_up, self.server.refusal = True, ""
        self._push(len(plan.streams), *plan.streams)  # an idle stream shows nothing of what was done to it
        if not time.run(lambda: self._look_after() or self._is_drained(), time.now + CALM_SECONDS, SWITCHES_MAX):
            self.report.violations.append(f"not drained in {CALM_SECONDS:g} s: {self._where()}")
            return
        time.run(self._look_after, time.now + SETTLE_SECONDS, SWITCHES_MAX)

    def _enlist(self) -> None:
        self._made += 1
        self.daemons.append(Daemon(self, self._made))

    def _look_after(self) -> bool:
        """Bury the dead, and have successors come after a while."""
        for daemon in [daemon for daemon in self.daemons if daemon.host.is_dead or daemon.actor.is_over]:
            self.daemons.remove(daemon)
            for link in self.network.links:
                if link.host is daemon.host:
                    self.network.hang_up(link)
            if daemon.actor.error is None:
                self.time.after(self.rng.uniform(0.0, 2.0), self._enlist)
        return False

    def make_engine(self) -> Any:
        if self.plan.is_real:
            return Engine(RECIPE, InlineTrainer(Engine.shape_of(RECIPE), RECIPE.learn))
        seconds = self.plan.tick_seconds
        return CheapEngine((lambda n: self.time.sleep(n * seconds)) if seconds else (lambda _: None))

    # Producers.

    def _produce(self) -> None:
        moment = self.rng.choice([0.0, 0.0, ACTIVE_SECONDS / 2])
        while moment < ACTIVE_SECONDS:
            n = self.rng.choice([1, 1, 2, 8, 30])
            self.time.at(moment, lambda n=n: self._push(n))
            moment += self.rng.expovariate(1.0)

    def _push(self, n: int, *streams: bytes) -> None:
        for i in range(n):
            stream = streams[i] if streams else self.rng.choice(self.plan.streams)
            fields: list[Any] = ["series", f"s{self.rng.randrange(4)}", "value", repr(self.rng.gauss(0, 1))]
            if self.rng.random() < 0.1:
                fields[3] = self.rng.choice(["x", "nan", "1e99", ""])
            if self.network.is_up:
                self.server.call("XADD", stream, "*", *fields)
                self.report.ticks += 1
        self.network.pump()

    # Faults.

    def _fate(self, link: Link, request: bytes) -> Fate | None:
        rng, plan = self.rng, self.plan
        # What matters most are commits; the rest is disturbed less often.
        share = plan.fate_share * (1.0 if b"EXEC" in request else 0.3)
        if self._is_calm or rng.random() >= share:
            return None
        kind: Any = rng.choice(FATES)
        self.report.faults[kind] += 1
        return Fate(kind, rng.choice([0.0, 1.0, rng.random()]), rng.uniform(0, 2.5 * plan.ttl_seconds))

    def _strike(self, fault: str) -> None:
        self.report.faults[fault] += 1
        getattr(self, "_" + fault.replace(" ", "_"))()
        self.network.pump()

    def _refuse(self) -> None:
        self.server.refusal = self.rng.choice(["OOM", "READONLY", "MISCONF", "NOREPLICAS", "LOADING", "BUSY"])
        self.time.after(self.rng.uniform(0.01, 3.0), self._relent)

    def _relent(self) -> None:
        self.server.refusal = ""

    def _vanish(self) -> None:
        """The server is gone for a while, and comes back with all that it had."""
        self.network.cut_all()
        self.network.is_up = False
        self.time.after(self.rng.uniform(0.01, 3.0), self._return)

    def _return(self) -> None:
        self.network.is_up = True

    def _restart(self) -> None:
        self.network.cut_all()
        self.server.refusal = "LOADING"
        self.time.after(self.rng.uniform(0.01, 1.0), self._relent)

    def _stream(self) -> bytes:
        return self.rng.choice(self.plan.streams)

    def _destroy_group(self) -> None:
        if (stream := self._stream()) in self.server.keys:
            self.server.call("XGROUP", "DESTROY", stream, "foretick")

    def _foreign_entry(self) -> None:
        keys = StreamKeys.of(self._stream(), PREFIX, PARTITION)
        key, entry_id = self.rng.choice([keys.forecasts, keys.dead]), self.rng.choice(["*", "99999999999999-0"])
        with contextlib.suppress(Refused):  # a second one at the end of time
            self.server.call("XADD", key, entry_id, "evil", "1")
        self._foreign += 1

    def _drop_lease(self) -> None:
        self.server.call("DEL", LEASE)

    def _terminate(self) -> None:
        if self.daemons:
            self.rng.choice(self.daemons).stop.set()

    def _usurp(self) -> None:
        """Somebody takes the lease who does nothing with it."""
        self.server.call("SET", LEASE, "somebody 1", "PX", int(self.plan.ttl_seconds * 1000))
        self.server.call("HSET", ORIGIN, "", "somebody 1")

    def _go_back(self) -> None:
        """The server comes back as it was a while ago."""
        if self._image is None:
            self._image = self.server.image()
            self.time.after(self.rng.uniform(0.0, 2.0), self._go_back)
            return
        self.network.cut_all()
        self.server.go_back(self._image)
        self._image = None

    def _create_anew(self) -> None:
        """An input with earlier ids in the place of another."""
        stream = self._stream()
        self.server.call("DEL", stream)
        for i in range(1, self.rng.randint(2, 6)):
            self.server.call("XADD", stream, f"{i}-0", "series", "s1", "value", i)
        self._is_relaxed = True

    def _delete(self) -> None:
        self.server.call("DEL", self._stream())
        self._is_relaxed = True

    def _trim(self) -> None:
        """Half of what is answered goes: a replay misses it."""
        stream = self._stream()
        found = self.server.keys.get(stream)
        if isinstance(found, Stream) and found.groups:
            answered = sum(entry_id <= found.groups[b"foretick"].position for entry_id in found.ids)
            self.server.call("XTRIM", stream, "MAXLEN", "=", len(found.ids) - answered // 2)
        self._is_relaxed = True

    def _flush(self) -> None:
        for key in list(self.server.keys):
            self.server.call("DEL", key)
        self._is_relaxed = True

    # What must hold.

    def _check_write(self, session: Session | None, command: list[bytes]) -> None:
        """Nobody writes what only the owner may write, unless it holds the lease at this very moment."""
        if session is None:
            return
        name, key = command[0].upper(), command[2] if command[0].upper() == b"XGROUP" else command[1]
        is_ours = name in {b"XADD", b"XGROUP", b"XTRIM", b"RENAME"} or key == MANIFEST or key.endswith(b":latest")
        if not is_ours:
            return
        owner = next((link.host.name for link in self.network.links if link.session is session), "nobody")
        holder = self.server.keys.get(LEASE)
        if holder is None or holder.rpartition(b" ")[0] != owner.encode():
            self.report.violations.append(f"{owner} wrote {name!r} {key!r} while {holder!r} held the lease")

    def _is_drained(self) -> bool:
        for stream in self.plan.streams:
            found = self.server.keys.get(stream)
            if isinstance(found, Stream) and found.ids:
                group = found.groups.get(b"foretick")
                if group is None or group.position < found.ids[-1]:
                    return False
        return True

    def _where(self) -> str:
        lines = [f"{daemon.owner} paused until {daemon.host.paused_until:.1f}" for daemon in self.daemons]
        return f"lease {self.server.keys.get(LEASE)!r}, {lines}"

    def _verdict(self) -> list[str]:
        found: list[str] = []
        for stream in self.plan.streams:
            try:
                found += [f"{stream.decode()}: {fault}" for fault in self._faults_of(stream)]
            except (KeyError, ValueError) as error:
                found.append(f"{stream.decode()} cannot be recounted: {error!r}")
        return found

    def _faults_of(self, stream: bytes) -> list[str]:
        server, keys = self.server, StreamKeys.of(stream, PREFIX, PARTITION)
        if stream not in server.keys:
            return []
        aside = [key for key in server.keys if key.startswith((keys.forecasts + b":", keys.dead + b":"))]
        if self._is_relaxed:
            return self._missing(stream, keys, aside)
        forecasts = self._published(keys.forecasts, aside, b"yhat")
        dead = self._published(keys.dead, aside, b"reason")
        info = server.call("XINFO", "GROUPS", stream)
        facts = dict(zip(info[0][::2], info[0][1::2], strict=True)) if info else None
        count = Recount(
            stream,
            entries=[(entry_id, _fields(row)) for entry_id, row in server.call("XRANGE", stream, "-", "+")],
            forecasts=forecasts,
            dead=dead,
            latest=server.keys.get(keys.latest, {}) if self.plan.latest else _latest_of(forecasts),
            group=facts and {name.decode(): value for name, value in facts.items()},
            aside=aside,
        )
        return [*count.faults(), *self._differences(stream, count)]

    def _missing(self, stream: bytes, keys: StreamKeys, aside: list[bytes]) -> list[str]:
        """Of an input that is not what it was: entries that nobody answered, or somebody twice in one stream."""
        read = lambda key: [i for i, _ in self.server.call("XRANGE", key, "-", "+")]  # noqa: E731
        ours = [key for key in (keys.forecasts, keys.dead) if key in self.server.keys]
        answers = Counter(i for key in ours for i in read(key))
        asked = read(stream)
        if self.report.faults["create anew"] and (self.plan.fate_share or self._made > self.plan.daemons):
            # Who dies between a commit that met a stream created anew and its repair leaves a position behind that the
            # successor has to believe (docs/reliability.md): what was put there with earlier ids is passed over.
            asked = [i for i in asked if int(i.partition(b"-")[0]) >= EARLIER_IDS]
        kept = {i for key in aside for i in read(key)}
        missing = [i for i in asked if i not in answers and i not in kept]
        double = [i for i in asked if answers[i] > 1]
        return [f"{len(missing)} without an answer: {missing[:3]}"] * bool(missing) + [
            f"{len(double)} answered twice: {double[:3]}"
        ] * bool(double)

    def _published(self, key: bytes, aside: list[bytes], mark: bytes) -> list[tuple[bytes, dict[bytes, bytes]]]:
        found = []
        for name in [key, *(one for one in aside if one.startswith(key + b":"))]:
            if name in self.server.keys:
                found += [(i, _fields(row)) for i, row in self.server.call("XRANGE", name, "-", "+")]
        found = [(i, row) for i, row in found if mark in row]  # what somebody else wrote is not ours
        return sorted(found, key=lambda pair: tuple(map(int, pair[0].split(b"-"))))

    def _differences(self, stream: bytes, count: Recount) -> list[str]:
        """Where the answers are not those of an undisturbed run, byte for byte."""
        entries = self.server.call("XRANGE", stream, "-", "+")
        decoded = wire.decode(entries, [stream] * len(entries), FieldNames())
        self.plan.tick_seconds = 0.0
        answers = self.make_engine().advance(wire.keyed(decoded))
        expected = [(i, _fields(flat)) for i, flat in wire.forecast_fields(decoded, answers)]
        if count.forecasts != expected:
            wrong = [i for (i, ours), (_, theirs) in zip(count.forecasts, expected, strict=False) if ours != theirs]
            return [f"{len(wrong)} forecasts differ from an undisturbed run, first {wrong[:1]}"]
        letters = [*decoded.dead, *wire.refusals(decoded, answers)]
        reasons = {letter.id: letter.reason for letter in letters}
        if count.reasons != reasons:
            return [f"dead letters are {count.reasons}, not {reasons}"]
        return []


def _fields(row: Any) -> dict[bytes, bytes]:
    return dict(zip(row[::2], row[1::2], strict=True))


def _latest_of(forecasts: list[tuple[bytes, dict[bytes, bytes]]]) -> dict[bytes, bytes]:
    """What `latest` would hold."""
    import json

    last = {fields[b"series"]: fields for _, fields in forecasts}
    numbers = {b"series", b"stage"}
    return {
        series: json.dumps(
            {n.decode(): (v.decode() if n in numbers else json.loads(v)) for n, v in fields.items()}
        ).encode()
        for series, fields in last.items()
    }
