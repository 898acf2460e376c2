"""A job is a value and so is its outcome; and what is learned is worth having."""

from __future__ import annotations

import hashlib
import math
import pickle
import subprocess
import sys
from dataclasses import fields, replace

import numpy as np
import pytest
import torch

from foretick.core.engine import Engine
from foretick.core.features import WIDTH
from foretick.core.learner import InlineTrainer, Job, Knowledge, Learner, learning_rate
from foretick.core.lstm import SequenceModel, Shape, init_weights
from foretick.core.recipe import LearnRecipe, Recipe
from foretick.core.recorder import Batch
from property.engine_streams import bits, columns, drive

SHAPE = Shape(WIDTH, 16)
RECIPE = LearnRecipe()


def batch_of(B, seed=0, T=8):
    """Chunks whose outcome is a simple function of the newest input and the one before."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((B, T, WIDTH)).astype(np.float32)
    before = np.concatenate([np.zeros((B, 1), np.float32), x[:, :-1, 0]], axis=1)
    z = (0.8 * x[:, :, 0] - 0.5 * before).astype(np.float32)
    h, c = (rng.standard_normal((B, 16)).astype(np.float32) / 4 for _ in range(2))
    return Batch(x, z, rng.integers(2, T + 1, B), h, c, np.zeros((B, T, 0), np.float32))


def job_of(knowledge=None, steps=4, B=12, rate=3e-3, seed=0):
    knowledge = knowledge or Knowledge.fresh(init_weights(SHAPE, 0))
    return Job(number=7, knowledge=knowledge, rate=rate, batches=[batch_of(B, seed + i) for i in range(steps)])


def learn(job):
    return Learner(SHAPE, RECIPE).learn(job)


def test_the_same_job_has_the_same_outcome_to_the_last_bit():
    learner, job = Learner(SHAPE, RECIPE), job_of()
    before = pickle.dumps(bits(job))
    first = learner.learn(job)
    learner.learn(job_of(seed=50))
    assert bits(learner.learn(job)) == bits(first) == bits(learn(job))
    assert pickle.dumps(bits(job)) == before, "the job was changed"
    assert not first.theta.equal(job.knowledge.theta)
    assert first.steps == 4
    assert first.sound


IN_ANOTHER_PROCESS = """
import sys
sys.path[:0] = {path!r}
import torch
from unit.core.test_learner import bits, digest, job_of, learn
for threads in (1, 2):
    torch.set_num_threads(threads)
    print(digest(learn(job_of(learn(job_of()), seed=9))))
"""


def digest(knowledge):
    return hashlib.sha256(repr(bits(knowledge)).encode()).hexdigest()


def test_another_process_finds_the_same_outcome_with_one_thread_or_two():
    here = digest(learn(job_of(learn(job_of()), seed=9)))
    code = IN_ANOTHER_PROCESS.format(path=sys.path)
    there = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=100)
    assert there.stdout.split() == [here, here]


def test_two_jobs_of_two_steps_are_one_job_of_four():
    whole = job_of(steps=4)
    first = replace(whole, batches=whole.batches[:2])
    second = replace(whole, batches=whole.batches[2:], knowledge=learn(first))
    assert bits(learn(second)) == bits(learn(whole))


def test_the_learner_takes_torchs_own_adam_steps_on_the_stated_loss():
    """A second reading of the loss, with chunks one at a time and torch's plain Adam."""
    job = job_of(steps=3, B=5)
    theta = job.knowledge.theta.clone().requires_grad_(True)
    adam = torch.optim.Adam([theta], lr=job.rate)
    model = SequenceModel(SHAPE)
    for batch in job.batches:
        losses = []
        for b, n in enumerate(batch.length.tolist()):
            x, h, c = (torch.from_numpy(part[b : b + 1]) for part in (batch.x, batch.h, batch.c))
            z = torch.from_numpy(batch.z[b, :n]).clamp(-10, 10)
            error = (model.forecast(theta, x[:, :n], h, c)[0, :, 0] - z).abs().mean()
            losses.append(error / (z.abs().mean() + 0.1))
        adam.zero_grad()
        (sum(losses) / len(losses)).backward()
        torch.nn.utils.clip_grad_norm_([theta], 1.0)
        adam.step()
    torch.testing.assert_close(learn(job).theta, theta.detach(), rtol=1e-4, atol=2e-5)


def test_what_lies_behind_a_chunks_length_changes_nothing():
    job = job_of()
    for batch in job.batches:
        beyond = np.arange(batch.z.shape[1])[None, :] >= batch.length[:, None]
        batch.z[beyond] = 9.0
        batch.x[beyond] = -3.0
    torch.testing.assert_close(learn(job).theta, learn(job_of()).theta, rtol=0, atol=1e-7)


def test_the_loss_falls_on_a_pattern_that_can_be_learned():
    learner, knowledge = Learner(SHAPE, RECIPE), Knowledge.fresh(init_weights(SHAPE, 0))
    unseen = batch_of(200, seed=10_000)

    def loss(knowledge):
        with torch.no_grad():
            return float(learner._loss(knowledge.theta, unseen))

    start = loss(knowledge)
    for i in range(60):
        knowledge = learner.learn(job_of(knowledge, rate=1e-2, B=24, seed=100 + 4 * i))
    assert 0.7 < start < 1.0, "it begins as naive"
    assert loss(knowledge) < 0.3 * start


@pytest.mark.parametrize("poison", [float("nan"), float("inf")])
def test_a_step_whose_gradient_is_not_finite_is_left_out(poison):
    job = job_of(steps=3)
    spoiled = replace(
        job, batches=[job.batches[0], replace(job.batches[1], h=job.batches[1].h * poison), job.batches[2]]
    )
    without = replace(job, batches=[job.batches[0], job.batches[2]])
    assert bits(learn(spoiled)) == bits(learn(without))
    assert learn(spoiled).steps == 2


def test_a_job_without_chunks_teaches_nothing():
    job = job_of()
    nothing = Batch(**{field.name: getattr(job.batches[0], field.name)[:0] for field in fields(Batch)})
    assert bits(learn(replace(job, batches=[nothing, nothing]))) == bits(job.knowledge)


def test_the_rate_is_full_at_first_and_falls_as_one_over_the_root_to_a_fifth():
    assert [learning_rate(t, RECIPE) for t in (0, 1, 400)] == [3e-3] * 3
    assert math.isclose(learning_rate(1600, RECIPE), 1.5e-3)
    assert math.isclose(learning_rate(1e9, RECIPE), 6e-4)


# Learning that can fail.

FITTED = Recipe(
    hidden=16,
    window=64,
    learn=LearnRecipe(early_every=4, early_until=400, every=8, steps=2, chunk=16, depth=8, slots=8, rate=1e-2),
)


def patterns(T, rng):
    """(T, 5) a clean and a noisy wave, two autoregressive series, and a wave on a wandering level."""
    t = np.arange(T)
    ar = np.zeros((T, 2))
    for i in range(2, T):
        ar[i] = [1.6, 0.3] * ar[i - 1] + [-0.8, -0.6] * ar[i - 2] + rng.standard_normal(2)
    return np.column_stack(
        [
            np.sin(t * 0.45),
            100 + 40 * np.sin(t * 0.31) + 4 * rng.standard_normal(T),
            ar,
            rng.standard_normal(T).cumsum() * 0.1 + np.sin(t * 0.7),
        ]
    )


def relative_errors(y, recipe, skip=200, trainer=None):
    """(S,) mean absolute error over the naive one's, after `skip` ticks."""
    engine = Engine(recipe, trainer)
    yhat = drive(engine, columns(y), [500]).yhat.reshape(y.shape)
    ours, naive = (np.abs(y[skip + 1 :] - made[skip:-1]).mean(axis=0) for made in (yhat, y))
    return ours / naive


def test_fifteen_hundred_ticks_teach_the_network_what_can_be_known():
    y = patterns(1500, np.random.default_rng(0))
    alone = replace(FITTED, linear=(), readout=None)
    learned = relative_errors(y, alone, skip=700)
    untaught = relative_errors(y, replace(alone, learn=replace(alone.learn, enabled=False)), skip=700)
    assert np.exp(np.log(learned).mean()) < 0.55, learned
    assert (learned < 0.85 * np.minimum(untaught, 1)).all(), "the skill must be the network's"


def test_where_nothing_can_be_known_the_blend_stays_with_naive():
    rng = np.random.default_rng(1)
    walks = [rng.standard_normal((1500, 2)).cumsum(axis=0), rng.standard_t(3, (1500, 2)).cumsum(axis=0)]
    found = relative_errors(np.column_stack([*walks, rng.standard_normal((1500, 2))]), FITTED)
    assert (np.abs(found[:4] - 1) < 0.015).all(), "nothing can be known of a random walk: better than naive is a leak"
    assert (found[4:] > 0.7).all(), "the mean of white noise is 1/√2 of naive: better than that is a leak"
    assert (found[4:] < 0.9).all()


def test_the_inline_trainer_hands_out_each_job_once():
    trainer = InlineTrainer(SHAPE, RECIPE)
    trainer.submit(job_of())
    assert trainer.collect().steps == 4
    with pytest.raises(AssertionError):
        trainer.collect()


def test_inputs_that_begin_silent_leave_the_others_as_they_would_be_without_them():
    wide, narrow = Shape(5, 8, layers=2), Shape(4, 8, layers=2)
    parts, without = wide.split(init_weights(wide, 3, [2])), narrow.split(init_weights(narrow, 3))
    heard = [0, 1, 3, 4]
    assert not parts["weight_ih_l0"][:, 2].any()
    assert parts["weight_ih_l0"][:, heard].equal(without["weight_ih_l0"])
    for name in set(without) - {"weight_ih_l0", "head_weight"}:
        assert parts[name].equal(without[name]), name
    assert not parts["head_weight"].any()
