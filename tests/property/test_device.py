"""A device gives the CPU's forecasts. Where there is none, torch's `cpu:0` goes its way: the same code, another place.

The learned weights of these tests are as wild as training makes them: a fresh network forecasts 0 wherever it is.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from foretick.core.block import ROWS_AT_ONCE
from foretick.core.engine import Engine
from foretick.core.features import WIDTH
from foretick.core.learner import InlineTrainer, Knowledge, Learner
from foretick.core.lstm import Shape, Stepper
from foretick.core.lstm_device import DeviceStepper, stepper_of
from foretick.core.profiles import PROFILES
from foretick.errors import DeviceFailed
from property.engine_streams import (
    SMALL,
    assert_same_forecasts,
    assert_same_snapshots,
    batchings,
    bits,
    columns,
    drive,
    few,
    streams,
)
from property.test_carried_state import HIDDEN, HIDDEN_ALLOWED, LAYERS, SEEDS, carried, inputs, step, weights
from unit.core.test_learner import RECIPE, SHAPE, job_of

CLOSE = 1e-4  # of a mean move: what is promised of forecasts from the same weights

no_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device; required nowhere: CI has none")
DEVICES = ["cpu:0", pytest.param("cuda:0", marks=no_cuda)]


@pytest.fixture(autouse=True)
def _exact():
    """What the daemon sets before it computes on a CUDA device."""
    if torch.cuda.is_available():
        from foretick.ports.device import compute_exactly

        compute_exactly()


@few
@given(HIDDEN, LAYERS, st.integers(1, 24), st.integers(1, 40), SEEDS)
def test_a_step_is_the_cpus(H, L, F, n, seed):
    shape = Shape(F, H, L)
    theta, x = weights(shape, seed), inputs(n, 8, F, seed)
    ours, theirs = (
        carried(one(shape, theta), x) for one in (lambda *of: DeviceStepper(*of, "cpu", columns=48), Stepper)
    )
    for a, b in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6 * max(1, np.abs(b).max()))


@pytest.mark.parametrize("device", DEVICES)
def test_a_thousand_steps_are_still_the_cpus(device):
    shape = Shape(WIDTH, 32)
    theta, x = weights(shape, 1), inputs(3, 1000, WIDTH, 1)
    ours = carried(DeviceStepper(shape, theta, device, columns=16), x)
    for a, b in zip(ours, carried(Stepper(shape, theta), x), strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=CLOSE / 10)


@pytest.mark.parametrize("device", DEVICES)
def test_further_horizons_are_the_cpus(device):
    shape = Shape(WIDTH, 16, outputs=4)
    theta, x = weights(shape, 1), inputs(16, 1, WIDTH, 1)[:, 0]
    far = []
    for stepper in (Stepper(shape, theta), stepper_of(shape, theta, device)):
        _, h, _ = stepper.step(x.T, *np.zeros((2, 16, 16), np.float32))
        far.append(stepper.further(x.T, h))
    np.testing.assert_allclose(*far, rtol=0, atol=1e-5)


@pytest.mark.parametrize("device", DEVICES)
@few
@given(HIDDEN_ALLOWED, LAYERS, st.integers(1, 48), st.data(), SEEDS)
def test_a_rows_bits_do_not_depend_on_the_rows_beside_it(device, H, L, n, data, seed):
    shape = Shape(WIDTH, H, L)
    stepper, rng = stepper_of(shape, weights(shape, seed), device), np.random.default_rng(seed)
    x, h, c = (rng.standard_normal((n, width)).astype(np.float32) for width in (WIDTH, L * H, L * H))
    order = data.draw(st.lists(st.integers(0, n - 1), min_size=1, max_size=60))
    for whole, chosen in zip(step(stepper, x, h, c), step(stepper, x[order], h[order], c[order]), strict=True):
        assert whole[order].tobytes() == chosen.tobytes()


@pytest.mark.parametrize("device", DEVICES)
def test_a_rows_bits_are_the_same_at_any_place_of_a_full_step(device):
    shape = Shape(WIDTH, 128)
    stepper, rng = stepper_of(shape, weights(shape, 0), device), np.random.default_rng(0)
    x, h, c = (rng.standard_normal((ROWS_AT_ONCE, width)).astype(np.float32) for width in (WIDTH, 128, 128))
    whole = step(stepper, x, h, c)
    turned = step(stepper, *(np.roll(part, 301, axis=0) for part in (x, h, c)))
    assert all(np.roll(a, 301, axis=0).tobytes() == b.tobytes() for a, b in zip(whole, turned, strict=True))


@pytest.mark.parametrize("device", DEVICES)
@settings(few, max_examples=6)
@given(streams, batchings)
def test_any_batching_gives_the_same_bits_while_learning(device, ticks, sizes):
    whole, parts = Engine(SMALL, device=device), Engine(SMALL, device=device)
    assert_same_forecasts(drive(whole, ticks), drive(parts, ticks, sizes))
    assert_same_snapshots(whole.snapshot(), parts.snapshot())


class Taught:
    """A trainer that computes nothing: it gives out what another one has learned, job by job."""

    def __init__(self, lessons):
        self._lessons = iter(lessons)

    def submit(self, job):
        pass

    def collect(self):
        return next(self._lessons)


class Noting(InlineTrainer):
    """A trainer that keeps every job, and what came of it."""

    def __init__(self, *network):
        super().__init__(*network)
        self.jobs, self.lessons = [], []

    def submit(self, job):
        self.jobs.append(job)
        super().submit(job)

    def collect(self):
        self.lessons.append(super().collect())
        return self.lessons[-1]


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize(("profile", "T"), [("lean", 240), ("accurate", 120)])
def test_forecasts_from_the_same_weights_are_the_cpus_while_weights_change(device, profile, T):
    """Each job's outcome is the CPU's here: learning amplifies the last bit, on one kind of machine as on two."""
    recipe, S = PROFILES[profile](), 3
    recipe = replace(recipe, learn=replace(recipe.learn, early_every=recipe.learn.every, steps=1))
    rng = np.random.default_rng(1)
    y = 100 + rng.standard_normal((T, S)).cumsum(axis=0) + 5 * np.sin(np.arange(T) / 9)[:, None]
    teacher = Noting(Engine.shape_of(recipe), recipe.learn)
    expected = drive(Engine(recipe, teacher), columns(y), [17]).yhat
    found = drive(Engine(recipe, Taught(teacher.lessons), device=device), columns(y), [17]).yhat
    assert len(teacher.lessons) > 12
    np.testing.assert_allclose(found, expected, rtol=0, atol=CLOSE * np.abs(np.diff(y, axis=0)).mean())
    learner = Learner(Engine.shape_of(recipe), recipe.learn, device)
    for job, lesson in list(zip(teacher.jobs, teacher.lessons, strict=False))[:: len(teacher.lessons) // 4]:
        learned = learner.learn(job)
        assert (learned.steps, learned.theta.device.type) == (lesson.steps, "cpu")
        torch.testing.assert_close(learned.theta, lesson.theta, rtol=0, atol=CLOSE)


def test_a_snapshot_knows_nothing_of_devices():
    ticks = columns(np.random.default_rng(2).standard_normal((60, 4)).cumsum(axis=0))
    there, here = Engine(SMALL, device="cpu:0"), Engine(SMALL)
    drive(there, ticks.slice(0, 130), [20])
    snapshot = there.snapshot()
    here.restore(snapshot)
    assert there.layout == here.layout
    assert bits(here.snapshot().knowledge) == bits(snapshot.knowledge)
    drive(here, ticks.slice(130, 240))


def test_nothing_of_a_step_or_a_job_slips_back_to_the_cpu():
    """Tensors of torch's `meta` device have no numbers: whatever asked for one, or met one of the CPU, would fail."""
    shape = Shape(WIDTH, 16, 2, outputs=3)
    DeviceStepper(shape, weights(shape, 0), "meta")._step_there()
    learner, job = Learner(SHAPE, RECIPE, "meta"), job_of()
    theta = job.knowledge.theta.to("meta").requires_grad_(True)
    (gradient,) = torch.autograd.grad(learner._loss(theta, job.batches[0]), theta)
    assert (gradient.device.type, gradient.shape) == ("meta", theta.shape)


def test_a_device_that_fails_is_to_blame_and_not_the_tick():
    """`meta` never gives back what was computed, as a device that is gone."""
    with pytest.raises(DeviceFailed, match=r"^meta failed: "):
        drive(Engine(SMALL, device="meta"), columns(np.ones((1, 1))))
    with pytest.raises(DeviceFailed, match=r"^meta failed: "):
        Learner(SHAPE, RECIPE, "meta").learn(job_of(Knowledge.fresh(torch.zeros(SHAPE.size))))
