"""What the group learns from is what its series lived through."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, replace

import numpy as np

from foretick.core.arena import name_hash
from foretick.core.engine import Engine
from foretick.core.learner import Knowledge
from foretick.core.recorder import Batch, mix64
from property.engine_streams import HOUR, MS, SMALL, Segment, columns, expand, records_of, ticks_of

T = SMALL.learn.chunk


@dataclass(frozen=True)
class WitnessedJob:
    """The batches of a job, and the position of the first tick after its cut."""

    batches: list[Batch]
    first_after: int


class Witness:
    """A trainer that learns nothing and keeps all jobs, and the weights of an engine that does something."""

    def __init__(self, knowledge):
        self.knowledge, self.jobs, self.first_after = knowledge, [], 0

    def submit(self, job):
        self.jobs.append(WitnessedJob(job.batches, self.first_after))

    def collect(self):
        return self.knowledge


def watched(ticks, recipe=SMALL):
    """Drive an engine tick by tick and note what each series really saw.

    Returns:
        The engine, its jobs, and per series id a list of (inputs, h and c before the tick, outcome).
    """
    engine = Engine(recipe)
    rng = np.random.default_rng(1)
    theta = engine._knowledge.theta
    witness = Witness(Knowledge.fresh(theta + 0.3 * theta.new_tensor(rng.standard_normal(len(theta)))))
    engine._adopt(witness.knowledge)
    engine._trainer = witness
    lived, step = defaultdict(list), engine._model.stepper.step

    def spy(x, h, c):
        spy.seen = x[:, 0].copy(), h[:, 0].copy(), c[:, 0].copy()
        return step(x, h, c)

    engine._adopt = lambda _: None  # keeps the spied stepper; the weights never change here
    engine._model.stepper.step = spy
    for i, name in enumerate(ticks.series):
        witness.first_after = i
        before = records_of(engine)["scale"], records_of(engine)["y"], records_of(engine)["t"]
        row = engine._arena.names.row_of.get(name)
        answer = engine.advance(ticks.slice(i, i + 1))
        if answer.verdict[0]:
            continue
        if row is not None and len(lived[name]) and records_of(engine)["t"][row] > 0:
            scale, change = before[0][row], ticks.y[i] - before[1][row]
            z = change / scale if scale > 0 else np.sign(change)
            lived[name][-1][3] = np.clip(z, -20, 20)
        lived[name].append([*spy.seen, None])
    return engine, witness.jobs, lived


def find(moments, x):
    """Positions in a series' life at which it saw these inputs."""
    return [i for i, moment in enumerate(moments) if np.array_equal(moment[0], x)]


def chunks(jobs):
    for job in jobs:
        for batch in job.batches:
            for b, length in enumerate(batch.length.tolist()):
                yield batch.x[b], batch.z[b], length, batch.h[b], batch.c[b]


LIVES = expand(
    [
        Segment("rounds", 4, 12, 11),
        Segment("burst", 1, 6, 13),
        Segment("rounds", 6, 12, 15),
        Segment("late", 1, 12, 17),
        Segment("rounds", 6, 20, 19),
    ]
)


def test_every_chunk_is_a_stretch_of_one_life_with_its_own_outcomes_and_start_state():
    engine, jobs, lived = watched(LIVES)
    assert engine.series_count > SMALL.learn.slots, "slots must rotate"
    count = 0
    for x, z, length, h, c in chunks(jobs):
        assert 2 <= length <= T
        moments, start = whose(lived, x[0], h)
        for k in range(length):
            assert np.array_equal(moments[start + k][0], x[k])
            np.testing.assert_allclose(z[k], moments[start + k][3], rtol=1e-6)
        assert np.array_equal(moments[start][1], h)
        assert np.array_equal(moments[start][2], c)
        count += 1
    assert count > 100


def whose(lived, x, h):
    at = [(name, i) for name, moments in lived.items() for i in find(moments, x)]
    at = [(name, i) for name, i in at if np.array_equal(lived[name][i][1], h)]
    assert at, "no series saw these inputs in this state"
    return lived[at[0][0]], at[0][1]


def test_every_series_is_recorded_in_turn_where_there_are_more_than_slots():
    _, jobs, lived = watched(LIVES)
    recorded = set()
    for x, _, _, h, _ in chunks(jobs):
        recorded |= {name for name, moments in lived.items() for i in find(moments, x[0]) if (moments[i][1] == h).all()}
    assert recorded == set(lived)


def test_a_series_that_restarts_is_not_learned_from_across_the_break():
    y = np.random.default_rng(0).standard_normal(60)
    rows = [(b"a", MS + i, MS + (i + 900) * HOUR, v) for i, v in enumerate(y[:21])]
    rows += [(b"a", MS + 21 + i, MS + i * HOUR, v) for i, v in enumerate(y)]
    _, jobs, lived = watched(ticks_of(rows), replace(SMALL, learn=replace(SMALL.learn, chunk=8)))
    last_before = lived[b"a"][20]
    assert last_before[3] is None, "its outcome never came"
    for x, z, length, _, _ in chunks(jobs):
        assert not any(np.array_equal(x[k], last_before[0]) for k in range(length))
        assert np.isfinite(z[:length]).all()
    assert not lived[b"a"][21][1].any(), "the state begins anew"


def job_sizes(y, recipe=SMALL):
    engine = Engine(recipe)
    engine._trainer = Witness(engine._knowledge)
    engine.advance(columns(np.asarray(y)))
    return engine, [[len(batch.length) for batch in job.batches] for job in engine._trainer.jobs]


def test_a_job_takes_the_latest_and_a_past_chunk_of_every_slot_then_past_ones():
    _, sizes = job_sizes(np.random.default_rng(0).standard_normal((40, 3)))
    assert sizes[0] == [0, 0], "slots are given at the first cut"
    assert sizes[-1] == [6, 3]


def test_with_fewer_series_than_slots_each_keeps_its_slot():
    engine, sizes = job_sizes(np.random.default_rng(0).standard_normal((60, 2)))
    assert sorted(engine._arena.slots[:2]) == sorted(np.flatnonzero(engine._recorder.row >= 0))
    assert sizes[-1] == [4, 2]


def test_a_job_reaches_up_to_the_last_outcomes_but_never_beyond():
    _, jobs, lived = watched(columns(np.random.default_rng(0).standard_normal((60, 1))))
    for job in jobs[3:]:
        batch, first_after = job.batches[0], job.first_after
        ends = [find(lived[b"s0"], batch.x[b, n - 1])[0] for b, n in enumerate(batch.length.tolist())]
        # The outcome of the newest tick has not come; a chunk that was just begun waits for its second outcome.
        assert first_after - 4 <= max(ends) <= first_after - 2


def test_a_past_chunk_is_any_of_the_closed_ones():
    recipe = replace(SMALL, learn=replace(SMALL.learn, depth=4))
    _, jobs, lived = watched(columns(np.random.default_rng(0).standard_normal((200, 1))), recipe)
    now, ages = 0, set()
    for job in jobs:
        starts = [find(lived[b"s0"], x)[0] for batch in job.batches for x in batch.x[:, 0]]
        now = max([now, *starts])
        ages |= {(now - start) // T for start in starts}
    assert ages == {0, 1, 2, 3}


def test_a_silent_series_gives_its_slot_to_one_that_waits_and_is_learned_from_no_more():
    y = np.full((120, 4), np.nan)
    rng = np.random.default_rng(0)
    y[:20, :3] = rng.standard_normal((20, 3))  # three series fill the slots, and fall silent
    y[20:, 3] = rng.standard_normal(100)
    _, jobs, lived = watched(columns(y))
    assert all(find(lived[b"s3"], x[0]) for x, *_ in chunks(jobs[-1:]))
    assert list(chunks(jobs[-1:]))


def test_a_series_that_wakes_up_is_recorded_again():
    y = np.full((140, 4), np.nan)
    rng = np.random.default_rng(0)
    y[:20, :3] = rng.standard_normal((20, 3))
    y[20:90, 3] = rng.standard_normal(70)
    y[90:, :] = rng.standard_normal((50, 4))
    _, jobs, lived = watched(columns(y))
    for name, moments in lived.items():
        assert any(find(moments, x[0]) and find(moments, x[0])[0] > len(moments) - 40 for x, *_ in chunks(jobs)), name


def test_a_job_is_a_copy_that_later_ticks_do_not_change():
    engine = Engine(SMALL)
    engine._trainer = Witness(engine._knowledge)
    ticks = columns(np.random.default_rng(0).standard_normal((60, 3)))
    engine.advance(ticks.slice(0, 90))
    job = engine._trainer.jobs[-1]
    kept = [[part.copy() for part in (b.x, b.z, b.length, b.h, b.c)] for b in job.batches]
    engine.advance(ticks.slice(90, 180))
    for batch, parts in zip(job.batches, kept, strict=True):
        for a, b in zip((batch.x, batch.z, batch.length, batch.h, batch.c), parts, strict=True):
            assert np.array_equal(a, b)


def test_series_are_sampled_by_a_hash_that_every_process_agrees_on():
    """The published vectors of FNV-1a, 64 bit."""
    assert [int(name_hash(name)) for name in (b"", b"a", b"foobar")] == [
        0xCBF29CE484222325,
        0xAF63DC4C8601EC8C,
        0x85944171F73967E8,
    ]


def test_the_hash_permutes_and_every_salt_differently():
    values = np.arange(5000, dtype=np.uint64)
    one, other = mix64(values, 0), mix64(values, 1)
    assert len(np.unique(one)) == len(values)
    assert not (one == other).any()
    assert abs(np.mean(one % np.uint64(2)) - 0.5) < 0.03
    assert int(mix64(np.uint64(0), 0)) == 0xE220A8397B1DCDAF, "SplitMix64's first number of seed 0"
