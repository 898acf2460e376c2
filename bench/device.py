"""What a device makes of the network: steps of many series, and learning jobs, on the CPU and each CUDA device at hand.

    python bench/device.py [--series 100000,1000000] [--hidden 32,128]

A step takes every series over one tick, in blocks of as many as the engine takes at once, from state that lies in
main memory and back into it; all but the network is left out. On a CUDA device it is also taken of a hundred times as
many at once, which the engine does not do: it tells what that would bring. A job is one of `accurate`: 4 Adam steps
through 128 chunks of 32 ticks. The CPU's figures are time on one core, those of devices by the clock; least of three.
"""

from __future__ import annotations

import argparse
import os
import platform
import time
from itertools import product
from typing import TYPE_CHECKING

import numpy as np
import torch
from rig import table

from foretick.core.block import ROWS_AT_ONCE
from foretick.core.device import CPU
from foretick.core.learner import Job, Knowledge, Learner
from foretick.core.lstm import Shape, Stepper, init_weights
from foretick.core.lstm_device import DeviceStepper
from foretick.core.parts import shape_of
from foretick.core.recipe import LearnRecipe, Recipe
from foretick.core.recorder import Batch
from foretick.ports.device import compute_exactly, describe_device

if TYPE_CHECKING:
    from collections.abc import Callable

RUNS = 3
CHUNKS = 128  # of a batch


def least_seconds(device: str, act: Callable[[], object]) -> float:
    """Of one call: time on the core where that is the CPU's, else by the clock."""
    clock = time.thread_time if device == CPU else time.perf_counter
    act()
    found = []
    for _ in range(RUNS):
        begun = clock()
        act()
        found.append(clock() - begun)
    return min(found)


def stepping(shape: Shape, device: str, n_series: int, at_once: int) -> Callable[[], None]:
    """What steps all series once, and keeps their state."""
    theta, rng = init_weights(shape, 0), np.random.default_rng(0)
    stepper = Stepper(shape, theta) if device == CPU else DeviceStepper(shape, theta, device, at_once)
    blocks = -(-n_series // at_once)
    x = rng.standard_normal((shape.inputs, at_once)).astype(np.float32)
    h, c = (np.zeros((blocks, shape.carried, at_once), np.float32) for _ in range(2))

    def step() -> None:
        for block in range(blocks):
            _, h[block], c[block] = stepper.step(x, h[block], c[block])

    return step


def learning(shape: Shape, device: str) -> Callable[[], Knowledge]:
    """What computes one job."""
    rng, recipe = np.random.default_rng(0), LearnRecipe()
    sizes = [(CHUNKS, recipe.chunk, shape.inputs), (CHUNKS, recipe.chunk)]
    x, z = (rng.standard_normal(size).astype(np.float32) for size in sizes)
    h = c = np.zeros((CHUNKS, shape.carried), np.float32)
    batch = Batch(x, z, np.full(CHUNKS, recipe.chunk), h, c, np.zeros((*z.shape, 0), np.float32))
    job = Job(1, Knowledge.fresh(init_weights(shape, 0)), recipe.rate, [batch] * recipe.steps)
    learner = Learner(shape, recipe, device)
    return lambda: learner.learn(job)


def measure(devices: list[str], hidden: list[int], series: list[int]) -> list[list[str]]:
    rows = []
    for H in hidden:
        shape = Shape(shape_of(Recipe()).inputs, H)
        job_ms = {device: 1e3 * least_seconds(device, learning(shape, device)) for device in devices}
        for S in series:
            cpu_seconds = 0.0
            for device, times in product(devices, (1, 100)):
                if device == CPU and times > 1:
                    continue  # it falls out of the cache
                at_once = ROWS_AT_ONCE * times
                seconds = least_seconds(device, stepping(shape, device, S, at_once))
                cpu_seconds = cpu_seconds or seconds
                figures = [f"{1 / seconds:.3g}", f"{S / seconds / 1e6:.2f}", f"{cpu_seconds / seconds:.2f}"]
                rows.append([f"H = {H}, S = {S:,}: {device}", f"{at_once:,}", *figures, f"{job_ms[device]:.1f}"])
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--series", default="100000,1000000")
    parser.add_argument("--hidden", default="32,128")
    options = parser.parse_args()
    torch.set_num_threads(1)  # as the daemon
    devices = [CPU, *(f"cuda:{i}" for i in range(torch.cuda.device_count()))]
    if len(devices) > 1:
        compute_exactly()
    hidden, series = ([int(part) for part in text.split(",")] for text in (options.hidden, options.series))
    header = ["", "series at once", "steps/s", "million series/s", "times the CPU", "a learning job, ms"]
    found = table(header, measure(devices, hidden, series))
    about = f"{os.cpu_count()} cores, {platform.machine()}, torch {torch.__version__}; load {os.getloadavg()[0]:.1f}"
    others = "; ".join(describe_device(device) for device in devices[1:]) or "no CUDA device was found: the CPU alone"
    print(f"## Devices\n\n{about}; {others}\n\n{found}\n", flush=True)


if __name__ == "__main__":
    main()
