"""Kill it at any instant: every entry keeps exactly one answer, the one that an undisturbed daemon gives.

Each campaign prints its seed; `FORETICK_TEST_SEED=… pytest tests/chaos` repeats its ticks, traps and instants (not the
scheduler's). `make chaos` runs many campaigns.
"""

from __future__ import annotations

import contextlib
import os
import random
import secrets
import signal
import socket
import time
from typing import TYPE_CHECKING, Any

import pytest
from crew import Crew, survivors
from killing_proxy import Trap
from producers import Producer, Source

from forked import ForkedDaemon
from recount import Recount, events, is_drained, recount, total
from servers import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import redis
    from crew import Member

    from conftest import Tally
    from servers import DaemonProcess, Server

pytestmark = [pytest.mark.redis, pytest.mark.chaos, pytest.mark.timeout(300)]

KILLS_EACH = 15  # of a campaign's two halves, at least
CAMPAIGNS = int(os.environ.get("FORETICK_TEST_CAMPAIGNS", "1"))
if KILLS := int(os.environ.get("FORETICK_TEST_KILLS") or "0"):
    CAMPAIGNS = -(-KILLS // KILLS_EACH)
SEEDS = [os.environ.get("FORETICK_TEST_SEED") or secrets.token_hex(4) for _ in range(CAMPAIGNS)]
TICKS_PER_ROUND = {False: 60, True: 120}  # with a standby or without; replay takes all of them again after every kill
COMMIT_BYTES = 20_000  # commits of a few dozen forecasts; a trap takes its place modulo the commit's length
OFTEN = 3 if CAMPAIGNS > 1 else 1  # the short form comes with every `make test`
ALONE = ["instant"] * (OFTEN + 1) + ["request"] * OFTEN + ["reply"] * OFTEN + ["replay", "term"]
WITH_STANDBY = ["instant", "reply", "both", "pause"]


class Campaign:
    """Load and violence on one server, and beside it a daemon that reads a copy of the same stream in peace."""

    def __init__(self, seed: str, server: Server, crew: Crew, mirror: redis.Redis) -> None:
        self.rng = random.Random(seed)
        self.client = server.client()
        self.crew = crew
        self._ticks = TICKS_PER_ROUND[crew.with_standby]
        now_ms = int(self.client.time()[0]) * 1000
        self.producers = [
            Producer(server.client(), Source(f"{seed} {name}", name, now_ms), random.Random(f"{seed} {name} pace"))
            for name in "ab"
        ]
        self._mirror = mirror
        self._copied = b"0-0"

    def allow(self, ticks: int) -> None:
        for producer in self.producers:
            producer.allow(ticks // len(self.producers))

    def round(self, kind: str) -> None:
        """One act of violence under load."""
        self.allow(self._ticks // 2)
        owner = self.crew.owner()
        self.allow(self._ticks // 2)
        getattr(self, kind)(owner)
        self.crew.enlist()
        self.copy()

    def instant(self, owner: Member) -> None:
        self._let_pass(0.7)
        self.crew.kill_now(owner)

    def request(self, owner: Member) -> None:
        """In the middle of sending a commit, or right after."""
        self._trap(owner, Trap(b"XADD", "request", self.rng.randint(1, 8), self.rng.randrange(COMMIT_BYTES)))

    def reply(self, owner: Member) -> None:
        """When the commit is done and the daemon does not know it yet."""
        self._trap(owner, Trap(b"XADD", "reply", self.rng.randint(1, 8), self.rng.randrange(1000)))

    def replay(self, owner: Member) -> None:
        """Twice: the owner, and its successor while it replays."""
        parts = range(1, 2 + self.client.xinfo_groups("ticks")[0]["entries-read"] // 1000)
        side = self.rng.choice(["request", "reply"])
        trap = Trap(b"XRANGE", side, self.rng.choice(parts), self.rng.randrange(COMMIT_BYTES))
        self.crew.enlist()
        others = [member for member in self.crew.alive if member is not owner]
        for other in others:
            self.crew.trap(other, trap)
        self.crew.kill_now(owner)
        self.crew.wait_sprung(*others)

    def both(self, _owner: Member) -> None:
        """Nobody is left, and ticks pile up."""
        self._let_pass(0.3)
        self.crew.kill_now(*self.crew.alive)

    def term(self, owner: Member) -> None:
        """SIGTERM under load."""
        self._let_pass(0.3)
        self.crew.terminate(owner)
        assert events(owner.daemon.output(), "lease_released"), owner.daemon.output()

    def pause(self, owner: Member) -> None:
        """An owner that sleeps past its lease, and wakes up when another owns it."""
        self.crew.enlist()
        owner.daemon.signal(signal.SIGSTOP)
        try:
            wait_until(lambda: self.crew.found_owner(owner), 60, "a successor")
        finally:
            owner.daemon.signal(signal.SIGCONT)
        wait_until(lambda: self._has_let_go(owner), 60, "an owner that knows that it is none")

    def finish(self) -> None:
        """All is pushed, answered and copied."""
        for producer in self.producers:
            producer.wait()
        for client in (self.client, self._mirror):
            self.copy()
            wait_until(lambda client=client: is_drained(client), 60, "the drain")

    def copy(self) -> None:
        """Bring the copy up to date."""
        while entries := self.client.xrange("ticks", min=b"(" + self._copied, count=500):
            pipe = self._mirror.pipeline(transaction=False)
            for entry_id, fields in entries:
                pipe.xadd("ticks", fields, id=entry_id)
            pipe.execute()
            self._copied = entries[-1][0]

    @staticmethod
    def _has_let_go(owner: Member) -> bool:
        """Its commit was refused; or it saw its successor among the members before it tried one."""
        lost = total(owner.daemon.get("/metrics")[1], "lease_lost_total") >= 1
        return lost or bool(events(owner.daemon.output(), "partition_given_up"))

    def _let_pass(self, seconds_max: float) -> None:
        time.sleep(self.rng.uniform(0, seconds_max))  # the instant of the violence; nothing waits for it

    def _trap(self, owner: Member, trap: Trap) -> None:
        self.crew.trap(owner, trap)
        while not owner.proxy.has_sprung.is_set():
            self.allow(2 * len(self.producers))  # commits must go on until the trap springs
            owner.proxy.has_sprung.wait(0.1)
            assert owner.is_alive or owner.proxy.has_sprung.wait(5), owner.daemon.output()
        self.crew.kills += 1


@pytest.fixture
def make_crew() -> Iterator[Callable[..., Crew]]:
    made: list[Crew] = []

    def make(server: Server, **options: Any) -> Crew:
        made.append(Crew(server, **options))
        return made[-1]

    yield make
    for crew in made:
        crew.dismiss()


@pytest.mark.parametrize(
    ("kind", "peace", "with_standby", "ttl", "rounds"),
    [
        pytest.param("redis", "valkey", False, "1s", ALONE, id="alone on redis"),
        pytest.param("valkey", "redis", True, "3s", WITH_STANDBY, id="with a standby on valkey"),
    ],
)
@pytest.mark.parametrize("seed", SEEDS, ids=[str(i) for i in range(CAMPAIGNS)])  # xdist wants equal ids everywhere
def test_whatever_kills_it_every_entry_has_the_one_answer_of_an_undisturbed_run(
    private_server: Callable[..., Server],
    make_crew: Callable[..., Crew],
    tally: Tally,
    kind: str,
    peace: str,
    with_standby: Any,
    ttl: str,
    rounds: list[str],
    seed: str,
) -> None:
    print(f"FORETICK_TEST_SEED={seed}")
    tally.seeds.append(seed)
    server, quiet = private_server(kind), private_server(peace)
    # Without checkpoints every start is a replay from the first tick, which some traps wait for.
    settings = {"lease__ttl": ttl, "model__hidden": 16, "checkpoint__every": 0, "learn__enabled": True}
    crew = make_crew(server, with_standby=with_standby, **settings)
    with contextlib.ExitStack() as stack:
        reference = ForkedDaemon(quiet.url, **settings).start(ready=False)
        stack.callback(reference.discard)
        campaign = Campaign(f"{seed} {kind}", server, crew, quiet.client())
        crew.enlist()
        plan = list(rounds)
        campaign.rng.shuffle(plan)
        for act in plan:
            begun = time.monotonic()
            campaign.round(act)
            tally.faults[act] += 1
            print(f"{act}: {time.monotonic() - begun:.1f} s, {campaign.client.xlen('ticks')} ticks")
        campaign.finish()
        survivor = crew.owner()
        assert crew.kills >= len(rounds) - 2
        tally.kills += crew.kills
        tally.ticks += campaign.client.xlen("ticks")

        ours, undisturbed = recount(campaign.client), recount(quiet.client())
        assert_owed(ours, campaign.producers)
        assert undisturbed.faults() == []
        assert ours.entries == undisturbed.entries
        assert ours.forecasts == undisturbed.forecasts
        assert ours.dead == undisturbed.dead
        assert ours.latest == undisturbed.latest

        assert_scores_agree(survivor.daemon, ours)
        assert_scores_agree(reference, undisturbed)
        assert_counts_agree(reference, undisturbed)
        assert reference.terminate(5) == 0
    assert_nothing_is_left(server, crew, campaign)


def assert_owed(found: Recount, producers: list[Producer]) -> None:
    """Each entry that a producer pushed has the answer that the producer knows it must get."""
    expected = {entry_id: reason for producer in producers for entry_id, reason in producer.expected.items()}
    assert found.faults() == []
    assert found.aside == []
    assert {entry_id for entry_id, _ in found.entries} == set(expected)
    assert found.reasons == {entry_id: reason for entry_id, reason in expected.items() if reason is not None}
    assert len(set(found.reasons.values())) >= 6, "the poison is too weak to show anything"
    assert sum(fields[b"stage"] == b"warm" for _, fields in found.forecasts) > len(found.forecasts) / 4


def assert_scores_agree(daemon: DaemonProcess, found: Recount) -> None:
    """The daemon's live accuracy is the recount's, also after crashes: replay counts again what memory lost."""
    page = daemon.get("/metrics")[1]
    scores = found.scores()
    assert scores["scaled_abs_error_total"] > 0
    assert {name: total(page, name) for name in scores} == pytest.approx(scores, rel=1e-9)


def assert_counts_agree(daemon: DaemonProcess, found: Recount) -> None:
    """At rest, the counters of a daemon that saw it all are the lengths of the streams."""
    page = wait_until(
        lambda: (p := daemon.get("/metrics")[1]) and total(p, "ticks_total") == len(found.entries) and p,
        what="ticks_total",
    )
    assert total(page, "forecasts_total", stream="ticks") == len(found.forecasts)
    assert total(page, "dead_letters_total", stream="ticks") == len(found.dead)
    assert total(page, "ticks_total") == total(page, "forecasts_total") + total(page, "dead_letters_total")
    reasons = list(found.reasons.values())
    assert {r: total(page, "dead_letters_total", reason=r) for r in set(reasons)} == {
        r: reasons.count(r) for r in set(reasons)
    }
    assert total(page, "replayed_ticks_total") == 0


def assert_nothing_is_left(server: Server, crew: Crew, campaign: Campaign) -> None:
    """After a clean stop of the survivors: no process, no connection, no open port, no lease, no stray key."""
    for producer in campaign.producers:
        producer.stop()
    members = crew.alive
    for member in members:
        crew.terminate(member)
        assert sorted(path.name for path in member.daemon.folder.iterdir()) == ["output"]
        with socket.create_server(("127.0.0.1", member.daemon.http_port)):
            pass
    crew.dismiss()
    assert survivors(crew.pids) == []
    server.close_clients()
    client = server.client()
    wait_until(lambda: len(client.client_list()) == 1, what="the end of all connections")
    own = "foretick:{ticks}:"
    keys = {key.decode() for key in client.scan_iter()}
    kept = {key for key in keys if key.startswith("foretick:{default}:checkpoint:") and not key.endswith(":origin")}
    assert len(kept) <= 5, "two generations, their list, the manifest, the history's name"
    assert keys - kept == {
        "ticks",
        own + "forecasts",
        own + "dead",
        own + "latest",
        "foretick:{default}:checkpoint:origin",
    }
    for output in crew.outputs:
        assert not [line for line in events(output) if line["event"] in {"stray", "bug"} or line["level"] == "error"]
