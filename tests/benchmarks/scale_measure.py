"""What devices, hosts, checkpoints and actors cost on this machine: the inputs of a model.

python -m tests.benchmarks.scale_measure [PART ...]

Each part is measured in a process of its own and written into `scale.json`, all of them
unless some are named: devices, seeds, hosts, disk, share, actors (ten minutes in all). A
time is the least of several, as nothing else makes a program faster than it is.
"""

import itertools
import json
import os
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

FIGURES = Path(__file__).with_name("scale.json")
STEPS, EPOCHS, MINIBATCHES = 32, 2, 4  # of a window of PPO; so many updates of it
UPDATES = EPOCHS * MINIBATCHES
PART = 32  # steps of an actor's window
LAYERS = 2
COUNTS = (1, 2, 4, 8)  # devices


def least(run, times):
    """The least seconds of several calls."""
    seconds = []
    for _ in range(times):
        clock = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - clock)
    return min(seconds)


def size(tree):
    """How many numbers a tree has."""
    import jax

    return int(sum(leaf.size for leaf in jax.tree.leaves(tree)))


def windows(seeds, devices, envs, units):
    """Seconds of a window of PPO on Pendulum, whose episodes are all of one length."""
    import jax
    import numpy as np

    import optix
    from optix.distributed.mesh import split
    from optix.run.programs import programs
    from optix.run.sharing import divided, mesh_for

    given = {"num_envs": envs, "num_steps": STEPS, "evaluation_episodes": 8}
    given |= {"num_epochs": EPOCHS, "num_minibatches": MINIBATCHES}
    given |= {"hidden": (units,) * LAYERS, "max_rounds": 10**6}
    shares = split(seeds, devices)
    loop = optix.make("Pendulum-v1", "ppo", **divided("ppo", given, shares.data))
    run = programs(loop, False, mesh_for(loop, shares))
    state = run.init(jax.random.split(jax.random.key(0), seeds))
    parameters = size(state.learner.policy.params) // seeds

    def rounds():
        nonlocal state
        state = jax.block_until_ready(run.advance(state, np.int32(4))[0])

    rounds()
    return {
        **{"seeds": seeds, "devices": devices, "steps": envs * STEPS},
        **{"parameters": parameters, "seconds": least(rounds, 6) / 4},
    }


def devices():
    """One run on more and more devices."""
    sizes = ((64, 64), (512, 64), (64, 256))
    return [
        noted(windows(1, count, *x)) for x, count in itertools.product(sizes, COUNTS)
    ]


def seeds():
    """Eight seeds on more and more devices."""
    return [noted(windows(8, count, 64, 64)) for count in COUNTS]


def hosts():
    """Two processes by gloo: a mean, an agreement, and gathering for a checkpoint."""
    from optix.distributed.launch import free_port

    port, command = str(free_port()), [sys.executable, "-m", __spec__.name]
    both = [
        subprocess.Popen(
            [*command, "--process", port, str(number)],
            stdout=subprocess.PIPE,
            text=True,
        )
        for number in range(2)
    ]
    try:
        said = [process.communicate(timeout=600)[0] for process in both]
    finally:
        for process in both:
            process.kill()
    return json.loads(said[0].strip().splitlines()[-1])


def exchanges(port, number):
    """What one of the two processes measures."""
    import jax
    import numpy as np
    from jax.sharding import NamedSharding
    from jax.sharding import PartitionSpec as P

    from optix.distributed.hosts import join
    from optix.distributed.peers import peers

    join(f"127.0.0.1:{port}", int(number), 2)
    mesh = jax.make_mesh((2,), ("data",), devices=jax.devices())
    own, points = NamedSharding(mesh, P("data")), []

    def mean(x):
        return jax.lax.pmean(x, "data")

    given = {"mesh": mesh, "in_specs": P("data"), "out_specs": P(), "check_vma": False}
    meets = jax.jit(jax.shard_map(mean, **given))
    for count in (1000, 30_000, 1_000_000, 4_000_000):
        row = np.ones((1, count), np.float32)
        x = jax.make_array_from_callback((2, count), own, lambda at, row=row: row)
        for what, run in (
            ("mean", lambda x=x: jax.block_until_ready(meets(x))),
            ("gather", lambda x=x: peers().on_host({"x": x})),
        ):
            run()
            points.append({"what": what, "bytes": 4 * count, "seconds": least(run, 15)})
    agrees = least(lambda: peers().all("a message"), 50)
    points.append({"what": "agree", "bytes": 0, "seconds": agrees})
    if peers().leads:
        print(json.dumps(points))


def disk():
    """Writing a checkpoint."""
    import numpy as np

    from optix.checkpoints.registry import CheckpointRegistry

    points, steps = [], itertools.count()
    for count in (1000, 300_000, 3_000_000, 30_000_000):
        tree = {"x": np.random.default_rng(0).normal(size=count).astype(np.float32)}
        with tempfile.TemporaryDirectory() as folder:
            registry = CheckpointRegistry(folder, 2)
            seconds = least(lambda r=registry, t=tree: r.save(next(steps), t), 4)
        points.append({"bytes": 4 * count, "seconds": seconds})
    return points


class Receiver:
    """An actor that is handed parameters and gives a window back."""

    def __init__(self, index, generation):
        """Of no environment."""

    def take(self, tree, count):
        """Touch all of it; return so many bytes."""
        import numpy as np

        total = sum(float(np.asarray(leaf).ravel()[-1]) for leaf in tree)
        return np.zeros(count // 4, np.float32), total

    def close(self):
        """Hold nothing."""


def share():
    """Parameters handed to an actor, and a window that comes back, on each engine."""
    import numpy as np

    from optix.distributed.acting.engines import ENGINES

    points = []
    for name in ENGINES:
        engine = ENGINES[name](Receiver, 1)
        for out, back in ((1000, 1000), (400_000, 1000), (40_000_000, 1000),
                          (1000, 400_000), (1000, 10_000_000)):  # fmt: skip
            tree = [np.ones(out // 4, np.float32)]

            def run(out=tree, back=back, engine=engine):
                engine.submit(0, 0, "take", engine.share(out), back)
                while not engine.wait(60.0):
                    pass

            run()
            given = {"engine": name, "out": out, "back": back}
            points.append({**given, "seconds": least(run, 15)})
        engine.close()
    return points


def waiting(seconds):
    """CartPole whose step waits."""
    import gymnasium

    class Waiting(gymnasium.Wrapper):
        def step(self, action):
            if seconds:
                time.sleep(seconds)
            return self.env.step(action)

    return Waiting(gymnasium.make("CartPole-v1"))


def plays(engine, count, each, wait, units):
    """Seconds of a window of IMPALA with so many actors of so many environments."""
    import jax

    from optix.agents.impala import impala
    from optix.distributed.acting.learner import actors as acting
    from optix.networks.mlp import actor_critic
    from optix.types import Discrete

    network = actor_critic((4,), Discrete(2), hidden=(units,) * LAYERS)
    given = {"num_envs": count * each, "num_steps": PART, "engine": engine}
    agent = impala(network, (4,), Discrete(2), num_minibatches=2)
    learner = acting(agent, partial(waiting, wait), count, **given)
    step, state = jax.jit(learner.step), learner.init(jax.random.key(0))
    keys = iter(jax.random.split(jax.random.key(1), 1000))

    def window():
        nonlocal state
        state, _ = step(state, dict(learner.hyperparams), next(keys), True)
        # actors of this process compute too, and must not queue behind the next one
        jax.block_until_ready(state.policy.params)

    for _ in range(5):
        window()
    # in turn each window is one piece of work, elsewhere only several have a rate
    several, learning = 1 if engine == "inline" else 8, None
    seconds = least(lambda: [window() for _ in range(several)], 32 // several) / several
    if engine == "inline":
        report = step(state, dict(learner.hyperparams), next(keys), True)[1]
        learn = jax.jit(learner.agent.learn)
        given = (state.policy, report.trajectory, dict(learner.hyperparams), next(keys))

        def update():
            jax.block_until_ready(learn(*given).policy.params)

        update()
        learning = least(update, 30)
    learner.host.rest()
    return {
        **{"engine": engine, "actors": count, "each": each, "wait": wait},
        **{"parameters": size(state.policy.params), "seconds": seconds},
        "learning": learning,
    }


def noted(point):
    """A point, told as soon as it is there."""
    print(point, file=sys.stderr, flush=True)
    return point


def actors():
    """Windows that actors play: in turn for the fit, on the other engines to try it."""
    from optix.distributed.acting.engines import joined_ray

    inline = [(1, 1, 0, 64), (1, 8, 0, 64), (2, 4, 0, 64), (4, 2, 0, 64)]
    inline += [(2, 4, 0, 256), (1, 1, 2e-3, 64), (2, 2, 2e-3, 64), (1, 8, 1e-3, 64)]
    others = [(1, 2, 0, 64), (2, 4, 0, 64), (4, 2, 0, 64), (4, 4, 0, 256)]
    others += [(1, 1, 2e-3, 64), (2, 1, 2e-3, 64), (4, 1, 2e-3, 64), (8, 1, 2e-3, 64)]
    points = [("inline", *x) for x in inline]
    points += [(name, *x) for name in ("threads", "ray") for x in others]
    with joined_ray("the measurement", 8):
        return [noted(plays(*point)) for point in points]


PARTS = (devices, seeds, hosts, disk, share, actors)


def main():
    if sys.argv[1:2] == ["--process"]:
        return exchanges(*sys.argv[2:])
    if sys.argv[1:2] == ["--part"]:
        import jax

        several = sys.argv[2] in ("devices", "seeds")
        jax.config.update("jax_num_cpu_devices", max(COUNTS) if several else 1)
        part = next(part for part in PARTS if part.__name__ == sys.argv[2])
        print(json.dumps(part()))
        return None
    names = sys.argv[1:] or [part.__name__ for part in PARTS]
    figures = json.loads(FIGURES.read_text()) if FIGURES.exists() else {}
    for name in names:
        load = [os.getloadavg()[0]]
        command = [sys.executable, "-m", __spec__.name, "--part", name]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
        load.append(os.getloadavg()[0])
        points = json.loads(done.stdout.strip().splitlines()[-1])
        figures[name] = {"cores": os.cpu_count(), "load": load, "points": points}
        FIGURES.write_text(json.dumps(figures, indent=1) + "\n")
        print(f"{name}: {len(points)} points under a load of {load}", flush=True)


if __name__ == "__main__":
    main()
