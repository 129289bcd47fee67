"""What a window costs on devices, hosts and actors: measured inputs, a fit, its answers.

python -m tests.benchmarks.scale_model [--measure]

With --measure the inputs of devices and hosts are measured anew on this machine (about two
minutes) and the fit is told; without it the figures of `scale.md` are taken. Everything in
`answers` is the model, not a measurement.
"""

import argparse
import json
import math
import os
import subprocess
import sys
import time

# measured: see scale.md for machine and command
DEVICE = {"fixed": 4.4e-3, "per_step": 1.0e-6}  # seconds of a window of PPO
NETWORK = {"fixed": 4.0e-4, "per_byte": 1.7e-9}  # seconds of a mean over two processes
AGREE = 3.0e-3  # seconds of an agreement between two dispatches
DISPATCH = 0.5  # seconds of a dispatch, chosen by optix.run.pace
ACTOR = {
    "step": 2.0e-5,
    "call": 1.1e-3,
    "update": 1.2e-3,
}  # seconds: a step of CartPole with
# its part of the inference; a trajectory through Ray; an update of the learner
UPDATES, STEPS = 16, 512  # of a window of PPO; of a trajectory of an actor


def window(devices, steps, parameters, device=DEVICE, network=NETWORK):
    """Seconds of a window whose data `devices` share: work, and a mean in each update.

    A ring of D devices sends 2 (D - 1) / D of the gradient in 2 (D - 1) messages; the
    measurement of two has two of them.
    """
    work = device["fixed"] + device["per_step"] * steps / devices
    if devices == 1:
        return work
    messages, share = 2 * (devices - 1), 2 * (devices - 1) / devices
    one = network["fixed"] / 2 * messages + network["per_byte"] * 4 * parameters * share
    return work + UPDATES * one


def actors(count, latency, cores, actor=ACTOR):
    """Environment steps per second of `count` actors on each engine.

    An actor's step has a part that waits (`latency`) and one that computes. Lockstep
    does both in turn, threads share one interpreter, processes of Ray share the cores and
    pay for each trajectory. The learner updates once for each of them.
    """
    step, wait = actor["step"], latency
    each = STEPS * (step + wait)
    learner = 1 / actor["update"]
    inline = 1 / (each + actor["update"])
    threads = min(count / each, 1 / (STEPS * step + actor["update"]), learner)
    ray = min(
        count / (each + actor["call"]),
        cores / (STEPS * step + actor["call"]),
        learner,
        1 / actor["call"],
    )
    return {
        name: STEPS * rate
        for name, rate in {"inline": inline, "threads": threads, "ray": ray}.items()
    }


def line(points):
    """Least squares of y = fixed + slope x over [(x, y)], and the worst error in parts."""
    n, sx = len(points), sum(x for x, _ in points)
    sy, sxx = sum(y for _, y in points), sum(x * x for x, _ in points)
    sxy = sum(x * y for x, y in points)
    slope = (n * sxy - sx * sy) / (n * sxx - sx * sx)
    fixed = (sy - slope * sx) / n
    worst = max(abs(fixed + slope * x - y) / y for x, y in points)
    return fixed, slope, worst


def measured_windows():
    """Pairs (environment steps of a window, seconds) of PPO on one device."""
    import jax
    import numpy as np

    import optix
    from optix.run.programs import programs

    pairs = []
    for envs in (16, 64, 256):
        given = {"num_envs": envs, "num_steps": 32, "evaluation_episodes": 2}
        loop = optix.make("CartPole-v1", agent="ppo", max_rounds=10**6, **given)
        run = programs(loop, False)
        state = run.init(jax.random.split(jax.random.key(0), 1))
        state = jax.block_until_ready(run.advance(state, np.int32(2)))[0]
        seconds = []
        for _ in range(5):
            clock = time.perf_counter()
            state = jax.block_until_ready(run.advance(state, np.int32(4)))[0]
            seconds.append((time.perf_counter() - clock) / 4)
        pairs.append((32 * envs, sorted(seconds)[2]))
    return pairs


EXCHANGE = """
import json, sys, time
import jax, numpy as np
from jax.sharding import NamedSharding, PartitionSpec as P
from optix.distributed.hosts import join, peers
join("127.0.0.1:" + sys.argv[1], int(sys.argv[2]), 2)
mesh = jax.make_mesh((2,), ("data",), devices=jax.devices())
own, pairs = NamedSharding(mesh, P("data")), []
for size in (1000, 100_000, 1_000_000):
    mean = jax.jit(jax.shard_map(lambda x: jax.lax.pmean(x, "data"), mesh=mesh,
                                 in_specs=P("data"), out_specs=P(), check_vma=False))
    x = jax.make_array_from_callback((2, size), own, lambda at: np.ones((1, size), "f4"))
    seconds = []
    for _ in range(20):
        clock = time.perf_counter()
        jax.block_until_ready(mean(x))
        seconds.append(time.perf_counter() - clock)
    pairs.append((4 * size, sorted(seconds)[10]))
clock = time.perf_counter()
for _ in range(50):
    peers().all("a message")
agree = (time.perf_counter() - clock) / 50
if peers().leads:
    print(json.dumps([pairs, agree]))
"""


def measured_exchange():
    """Pairs (bytes, seconds) of a mean over two processes, and seconds of an agreement."""
    from optix.distributed.launch import free_port

    port = str(free_port())
    both = [
        subprocess.Popen(
            [sys.executable, "-c", EXCHANGE, port, str(i)],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env={**os.environ, "JAX_PLATFORMS": "cpu"},
        )
        for i in range(2)
    ]
    try:
        said = [process.communicate(timeout=300)[0] for process in both]
    finally:
        for process in both:
            process.kill()
    return json.loads(said[0].strip().splitlines()[-1])


def answers(device=DEVICE, network=NETWORK, agree=AGREE):
    """Print what the model says; nothing of it was measured."""
    print("| steps of a window | parameters | 8 devices | 64 | 512 | most that pay |")
    print("|---|---|---|---|---|---|")
    for steps, parameters in [
        (8192, 10**4),
        (2**20, 10**4),
        (2**20, 10**6),
        (2**24, 10**6),
    ]:
        alone = window(1, steps, parameters, device, network)
        gains = [
            alone / window(n, steps, parameters, device, network) for n in (8, 64, 512)
        ]
        sizes = [2**k for k in range(13)]
        best = min(sizes, key=lambda n: window(n, steps, parameters, device, network))
        words = " | ".join(f"{gain:.3g}x" for gain in gains)
        print(f"| {steps} | {parameters} | {words} | {best} |")
    cost = 100 * 2 * agree / (DISPATCH + 2 * agree)
    print(
        f"\nseeds over hosts: {cost:.1f} % of a dispatch to agree, for any number of seeds"
    )
    print("\n| a step waits | actors | lockstep | threads | Ray, 64 cores |")
    print("|---|---|---|---|---|")
    for latency in (0.0, 1e-4, 2e-3, 2e-2):
        for count in (1, 10, 100, 1000):
            rates = actors(count, latency, 64).values()
            row = " | ".join(f"{rate:,.0f}" for rate in rates)
            print(f"| {1000 * latency:g} ms | {count} | {row} |")
    full = 1 / max(ACTOR["update"], ACTOR["call"])
    for latency in (0.0, 2e-3):
        each = STEPS * (ACTOR["step"] + latency) + ACTOR["call"]
        needed = math.ceil(full * each)
        print(
            f"\nthe learner is full at {needed} actors whose step waits {latency:g} s"
        )


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--measure", action="store_true")
    if not parser.parse_args().measure:
        return answers()
    windows = measured_windows()
    exchange, agree = measured_exchange()
    fixed, slope, worst = line(windows)
    device = {"fixed": max(fixed, 0.0), "per_step": slope}
    print(f"measured windows {windows}\nfit {device}, worst error {100 * worst:.0f} %")
    fixed, slope, worst = line(exchange)
    network = {"fixed": max(fixed, 0.0), "per_byte": slope}
    print(f"measured means {exchange}\nfit {network}, worst error {100 * worst:.0f} %")
    print(f"measured agreement {1000 * agree:.1f} ms\n")
    answers(device, network, agree)


if __name__ == "__main__":
    main()
