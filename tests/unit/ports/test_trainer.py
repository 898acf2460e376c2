"""The trainer's process: the same bits as the loop itself, whatever becomes of the process."""

from __future__ import annotations

import gc
import os
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from foretick.core.engine import Engine
from foretick.core.learner import Job, Knowledge, Learner
from foretick.core.lstm import Shape, init_weights
from foretick.core.recipe import LearnRecipe, PoolRecipe
from foretick.core.recorder import Batch
from foretick.ports import trainer as trainer_module
from foretick.ports import trainer_life
from foretick.ports.trainer import DEATHS_MAX, TrainerProcess
from property.engine_streams import SMALL, assert_same_forecasts, assert_same_snapshots, bits, columns, drive, few
from servers import wait_until

pytestmark = pytest.mark.skipif(not TrainerProcess.is_supported(), reason="computed inline on this system")
SHAPE, RECIPE = Shape(24, 16), LearnRecipe()


@pytest.fixture(autouse=True)
def _one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


class Events(list):
    """What was told, as (event, reason)."""

    def make(self, **options):
        return TrainerProcess(
            lambda reason: self.append(("restarted", reason)),
            lambda reason: self.append(("given up", reason)),
            **options,
        )


def wait_ready(process):
    wait_until(lambda: process.is_ready, 60, "the trainer's readiness")


@pytest.fixture(scope="module")
def _started():
    """One process for all tests: importing torch takes seconds. Those that spoil it leave a new one behind."""
    events = Events()
    with events.make() as process:
        yield process, events
    assert process.pid is None


@pytest.fixture
def process(_started):
    """Ready, and undisturbed up to here; the test leaves no descriptor behind."""
    process, events = _started
    wait_ready(process)
    gc.collect()
    before = descriptors()
    events.clear()
    yield process
    gc.collect()
    assert len(descriptors()) == len(before)


@pytest.fixture
def events(process, _started):
    """What was told since the test began."""
    return _started[1]


def descriptors():
    return sorted(path.name for path in Path("/proc/self/fd").iterdir())


def wait_answer(seat):
    wait_until(lambda: seat._answer, what="an answer of the process")


def in_a_thread(act):
    """Begin it in another thread; a function that waits for its outcome."""
    executor = ThreadPoolExecutor(1)
    future = executor.submit(act)
    executor.shutdown(wait=False)
    return lambda: future.result(60)


def replace_in(namespace, **changes):
    return SimpleNamespace(**vars(namespace) | changes)


def job_of(seed=0, shape=SHAPE, chunks=(9, 5), T=8, rate=3e-3, knowledge=None):
    rng = np.random.default_rng(seed)

    def batch(B):
        floats = [(B, T, shape.inputs), (B, T), (B, shape.carried), (B, shape.carried), (B, T, shape.outputs - 1)]
        x, z, h, c, far = (rng.standard_normal(size).astype(np.float32) for size in floats)
        far[far > 1] = np.nan
        return Batch(x, z, rng.integers(0, T + 1, B), h, c, far)

    knowledge = knowledge or Knowledge.fresh(init_weights(shape, seed))
    return Job(number=seed, knowledge=knowledge, rate=rate, batches=[batch(B) for B in chunks])


def learned_inline(job, shape=SHAPE, recipe=RECIPE):
    return bits(Learner(shape, recipe).learn(job))


shapes = st.builds(Shape, st.integers(1, 30), st.sampled_from([8, 16, 40]), st.integers(1, 2), st.integers(1, 3))
pools = st.sampled_from([None, PoolRecipe()])
recipes = st.builds(LearnRecipe, clip_norm=st.floats(1e-3, 10), target_clip=st.floats(0.1, 20), pool=pools)


@settings(few, suppress_health_check=list(HealthCheck))  # the process of all examples is one
@given(
    shapes, recipes, st.lists(st.integers(0, 40), max_size=4), st.integers(1, 33), st.integers(0, 99), st.floats(0, 1)
)
def test_any_job_has_the_same_outcome_as_inline_to_the_last_bit(process, shape, recipe, chunks, T, seed, rate):
    seat = process.seat(shape, recipe)
    job = job_of(seed, shape, chunks, T, rate)
    for _ in range(2):  # the second starts from moments that are not zero
        expected = learned_inline(job, shape, recipe)
        before = bits(job)
        seat.submit(job)
        wait_answer(seat)
        learned = seat.collect()
        assert bits(learned) == expected
        assert bits(job) == before
        job = replace(job, knowledge=learned)


def test_a_job_is_computed_on_the_device_that_it_is_ordered_for(process):
    """On torch's `cpu:0`, which is the CPU by the way of a device; there a job has the same bits."""
    seat, job = process.seat(SHAPE, RECIPE, device="cpu:0"), job_of()
    seat.submit(job)
    wait_answer(seat)
    assert bits(seat.collect()) == learned_inline(job)
    seat.submit(job)
    process.drop(seat)  # nobody computes it but the collector
    assert bits(seat.collect()) == learned_inline(job)
    assert seat._learner._device == "cpu:0"


def test_what_is_no_number_travels_too(process):
    job = job_of()
    job.batches[0].z[:] = np.nan
    job.batches[1].x[:] = np.inf
    seat = process.seat(SHAPE, RECIPE)
    seat.submit(job)
    assert bits(seat.collect()) == learned_inline(job)


def test_an_engine_forecasts_the_same_bits_with_a_process_as_without(process):
    ticks = columns(np.random.default_rng(1).standard_normal((80, 5)).cumsum(axis=0))
    inline, beside = (Engine(SMALL, trainer) for trainer in (None, process.seat(Engine.shape_of(SMALL), SMALL.learn)))
    assert_same_forecasts(drive(inline, ticks, [17]), drive(beside, ticks, [23]))
    assert_same_snapshots(inline.snapshot(), beside.snapshot())


def test_a_restored_engine_has_its_job_in_flight_computed_again(process):
    ticks = columns(np.random.default_rng(2).standard_normal((60, 4)).cumsum(axis=0))
    engine, restored = (Engine(SMALL, process.seat(Engine.shape_of(SMALL), SMALL.learn)) for _ in range(2))
    drive(engine, ticks.slice(0, 130), [20])
    snapshot = engine.snapshot()
    assert snapshot.job is not None
    restored.restore(snapshot)
    rest = drive(engine, ticks.slice(130, 240))
    assert_same_forecasts(drive(restored, ticks.slice(130, 240), [7]), rest)


def test_many_seats_have_their_jobs_computed_each_for_itself(process):
    networks = [(Shape(24, 8 * (1 + i % 3)), replace(RECIPE, clip_norm=0.1 + i)) for i in range(30)]
    seats = [process.seat(*network) for network in networks]
    jobs = [job_of(i, shape) for i, (shape, _) in enumerate(networks)]
    for seat, job in zip(seats, jobs, strict=True):
        seat.submit(job)
    for i in np.random.default_rng(0).permutation(len(seats)):
        assert bits(seats[i].collect()) == learned_inline(jobs[i], *networks[i])


def test_seats_of_several_threads_do_not_disturb_each_other(process):
    def learn_on(i):
        seat, job = process.seat(SHAPE, RECIPE), job_of(i)
        for _ in range(10):
            seat.submit(job)
            job = replace(job, knowledge=seat.collect())
        return bits(job.knowledge)

    def expected(i):
        learner, job = Learner(SHAPE, RECIPE), job_of(i)
        for _ in range(10):
            job = replace(job, knowledge=learner.learn(job))
        return bits(job.knowledge)

    with ThreadPoolExecutor(4) as threads:
        assert list(threads.map(learn_on, range(4))) == [expected(i) for i in range(4)]


def test_a_seat_that_is_given_up_with_its_job_leaves_nothing_behind(process):
    other = process.seat(SHAPE, RECIPE)
    other.submit(job_of(50))
    before = descriptors()
    for i in range(20):
        process.seat(SHAPE, RECIPE).submit(job_of(i))
    assert descriptors() == before
    assert bits(other.collect()) == learned_inline(job_of(50))
    wait_until(lambda: not process._sent, what="the answers to all orders")


def test_a_killed_process_is_replaced_and_its_jobs_are_computed_all_the_same(process, events):
    killed = process.pid
    seats = [process.seat(SHAPE, RECIPE) for _ in range(3)]
    os.kill(killed, signal.SIGSTOP)  # or it might be done before it is killed
    for i, seat in enumerate(seats):
        seat.submit(job_of(i))
    collected = in_a_thread(seats[0].collect)
    os.kill(killed, signal.SIGKILL)
    assert bits(collected()) == learned_inline(job_of(0)), "computed here: the new process is not ready"
    assert not process.is_ready
    wait_until(lambda: events == [("restarted", "it was ended by SIGKILL")])
    wait_ready(process)  # it gets the same jobs
    assert process.pid != killed
    for i in (1, 2):
        wait_answer(seats[i])
        assert bits(seats[i].collect()) == learned_inline(job_of(i))
    assert len(events) == 1


def test_a_silent_process_is_replaced_and_the_loop_is_kept_alive_meanwhile(process, events, monkeypatch):
    monkeypatch.setattr(process, "wait_seconds", 0.05)
    monkeypatch.setattr(process, "_silence_seconds", 0.3)
    stopped, waits = process.pid, []
    os.kill(stopped, signal.SIGSTOP)
    seat = process.seat(SHAPE, RECIPE, lambda: waits.append(time.monotonic()))
    seat.submit(job_of(1))
    assert bits(seat.collect()) == learned_inline(job_of(1))
    assert len(waits) >= 4
    assert not Path(f"/proc/{stopped}").exists()
    wait_until(lambda: events == [("restarted", "it did not answer for 0.3 s")])
    with monkeypatch.context() as patience:
        patience.setattr(trainer_module, "READY_SECONDS", 0.0)
        wait_until(lambda: len(events) == 2)
    assert events[1] == ("restarted", "it was not ready after 0 s")

    seat.submit(job_of(2))
    assert bits(seat.collect()) == learned_inline(job_of(2)), "computed here: the new process is not ready"
    assert not process.is_ready
    seat.submit(job_of(3))
    wait_ready(process)  # and the job that was held back for it is ordered
    wait_answer(seat)
    assert bits(seat.collect()) == learned_inline(job_of(3))
    assert len(events) == 2


def test_what_the_wait_raises_ends_it_and_the_seat_goes_on_with_another_job(process, events, monkeypatch):
    class Stop(Exception):
        pass

    def stop():
        raise Stop

    monkeypatch.setattr(process, "wait_seconds", 0.05)
    os.kill(process.pid, signal.SIGSTOP)
    seat = process.seat(SHAPE, RECIPE, stop)
    seat.submit(job_of(1))
    with pytest.raises(Stop):
        seat.collect()
    seat.submit(job_of(2))
    os.kill(process.pid, signal.SIGCONT)
    wait_answer(seat)
    assert bits(seat.collect()) == learned_inline(job_of(2))
    assert not events


def test_a_clean_end_leaves_no_process_no_descriptor_and_no_job_unlearned():
    gc.collect()
    before = descriptors()
    process = Events().make()
    process.start()
    pid = wait_until(lambda: process.pid)
    seat = process.seat(SHAPE, RECIPE)
    seat.submit(job_of())
    process.close()
    process.close()
    gc.collect()
    assert descriptors() == before
    assert not Path(f"/proc/{pid}").exists()
    assert bits(seat.collect()) == learned_inline(job_of())
    seat.submit(job_of(1))
    assert bits(seat.collect()) == learned_inline(job_of(1))
    assert descriptors() == before
    assert process._attendant not in threading.enumerate()


@pytest.fixture
def _mortal(monkeypatch):
    """Every process ends at once, with status 1."""
    monkeypatch.setattr(trainer_life, "bound_to_parent", lambda _: ["false"])


@pytest.mark.usefixtures("_mortal")
def test_after_five_deaths_in_a_row_every_job_is_computed_here():
    events = Events()
    with events.make() as process:
        seat = process.seat(SHAPE, RECIPE)
        seat.submit(job_of(0))
        wait_until(lambda: process.is_over)
        assert bits(seat.collect()) == learned_inline(job_of(0))
        seat.submit(job_of(1))
        assert bits(seat.collect()) == learned_inline(job_of(1))
    assert [event for event, _ in events] == ["restarted"] * (DEATHS_MAX - 1) + ["given up"]
    assert "status 1" in events[-1][1]


def test_the_death_of_a_process_that_did_well_for_long_is_the_first_again():
    process = Events().make()
    good = SimpleNamespace(has_answered=True, started_at=time.monotonic() - 61)
    bad = [replace_in(good, has_answered=False), replace_in(good, started_at=time.monotonic())]
    assert [process._is_one_too_many(child) for child in 2 * bad] == [False] * 4
    assert not process._is_one_too_many(good)
    assert [process._is_one_too_many(child) for child in 2 * bad] == [False] * 3 + [True]


def test_where_no_process_can_be_started_every_job_is_computed_here(monkeypatch):
    events = Events()
    monkeypatch.setattr(trainer_life, "bound_to_parent", lambda _: ["/nowhere/python"])
    with events.make() as process:
        seat = process.seat(SHAPE, RECIPE)
        seat.submit(job_of())
        assert bits(seat.collect()) == learned_inline(job_of())
        wait_until(lambda: process.is_over)
    ((event, reason),) = events
    assert event == "given up"
    assert "no process can be started" in reason


def test_a_long_job_that_is_computed_here_keeps_the_loop_alive_between_its_steps(monkeypatch):
    waits = []
    process = Events().make(wait_seconds=0.0)  # never started
    seat = process.seat(SHAPE, RECIPE, lambda: waits.append(1))
    job = job_of(chunks=(9, 5, 0, 3))
    seat.submit(job)
    assert bits(seat.collect()) == learned_inline(job)
    assert len(waits) == 4
    assert seat.computed_seconds > 0


def test_the_process_yields_to_the_loop_and_knows_no_secrets(process, monkeypatch):
    status = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
    assert int(status[16]) == 19
    assert os.getsid(process.pid) == os.getsid(0), "niceness counts for nothing across sessions"
    assert os.getpgid(process.pid) == process.pid, "Ctrl-C is for the daemon"
    assert Path(f"/proc/{process.pid}/oom_score_adj").read_text() == "500\n"
    seat = process.seat(SHAPE, RECIPE)
    for number in (signal.SIGTERM, signal.SIGINT):  # to a whole group, as systemd sends it
        os.kill(process.pid, number)
    seat.submit(job_of())
    wait_answer(seat)
    assert bits(seat.collect()) == learned_inline(job_of())
