"""Costs of devices, hosts and actors, fitted to what `scale_measure.py` has measured.

Each time is a sum of costs, each so many times what there is of its kind: least squares
say how large they are, and what is missed is told. What actors of the other engines take
is forecast from playing in turn and from handing over, but for one factor of each engine.
"""

from typing import NamedTuple

import numpy as np
from scipy.optimize import nnls

from tests.benchmarks.scale_measure import PART, UPDATES

STEP_BYTES = 64  # of a step of an actor's window, CartPole
STATE = 4 * 4  # bytes of a checkpoint for each parameter: policy, best, two of Adam


def table(*titles):
    """Print the head of a table of Markdown."""
    print(f"\n| {' | '.join(titles)} |\n|{'---|' * len(titles)}")


def row(*cells):
    """Print a row of it."""
    print(f"| {' | '.join(map(str, cells))} |")


class Fit(NamedTuple):
    """Seconds as a sum of costs, each of them so many times its feature."""

    costs: dict[str, float]
    misses: list[tuple[float, float]]  # (measured, fitted) seconds

    def of(self, features):
        """Seconds of each cost."""
        return {name: self.costs[name] * value for name, value in features.items()}

    def seconds(self, features):
        """Seconds of all of them."""
        return sum(self.of(features).values())

    def tell(self, name):
        """Print costs and misses."""
        print(f"\n### {name}: {len(self.misses)} points, {len(self.costs)} costs\n")
        for cost, value in self.costs.items():
            print(f"- {cost}: {value:.3g} s")
        off = [fitted / seconds - 1 for seconds, fitted in self.misses]
        told = ", ".join(
            f"{1000 * s:.3g} ({x:+.0%})"
            for (s, _), x in zip(self.misses, off, strict=True)
        )
        print(f"\nmeasured ms (fit is off by): {told}")
        print(
            f"\nroot mean square of the misses: {np.sqrt(np.mean(np.square(off))):.0%}"
        )


def fit(points, features, seconds="seconds"):
    """Least squares of relative errors, no cost below zero."""
    rows = [features(point) for point in points]
    names, y = list(rows[0]), np.array([point[seconds] for point in points])
    table = np.array([list(row.values()) for row in rows])
    scale = table.max(0)
    scale[scale == 0] = 1.0
    found = nnls(table / scale / y[:, None], np.ones(len(y)))[0] / scale
    costs = dict(zip(names, found.tolist(), strict=True))
    return Fit(costs, list(zip(y.tolist(), (table @ found).tolist(), strict=True)))


# ------------------------------------------------------------------------------ devices


def window_of(devices, steps, parameters, cores):
    """Features of a window of PPO whose data so many devices share.

    Devices of one CPU take turns on its cores. An update ends with a mean over devices,
    of which each hands on 2 (D - 1) / D of the gradient in 2 (D - 1) messages.
    """
    turns = devices / min(devices, cores)
    hops = 2 * (devices - 1) * UPDATES
    return {
        "a window": turns,
        "a step of an environment": turns * steps / devices,
        "a step and parameter": turns * steps / devices * parameters,
        "a message of a mean": hops,
        "a byte of a mean": hops / devices * 4 * parameters,
    }


def devices_fit(part):
    """One run on many devices."""
    cores = part["cores"]
    return fit(
        part["points"],
        lambda p: window_of(p["devices"], p["steps"], p["parameters"], cores),
    )


def seeds_fit(part):
    """Many seeds on many devices."""
    cores = part["cores"]

    def features(point):
        at_once = min(point["devices"], cores)
        return {"a dispatch": 1.0, "a seed": point["seeds"] / at_once}

    return fit(part["points"], features)


def line_fit(points, name):
    """A fixed cost and one for each byte."""
    return fit(points, lambda p: {f"a {name}": 1.0, "a byte": p["bytes"]})


# ------------------------------------------------------------------------------- actors


def played(point):
    """Features of what actors do for a window when they do it in turn."""
    steps = point["actors"] * point["each"] * PART
    return {
        "a choice of actions": point["actors"] * PART,
        "a step": steps,
        "a step and parameter": steps * point["parameters"],
        "a sleep, beyond its length": steps * (point["wait"] > 0),
    }


def learned(point):
    """Features of an update of the learner."""
    steps = point["actors"] * point["each"] * PART
    return {
        "an update": 1.0,
        "a step": steps,
        "a step and parameter": steps * point["parameters"],
    }


def handed(point):
    """Features of handing parameters to an actor and a window back."""
    return {
        "a job": 1.0,
        "a byte of parameters": point["out"],
        "a byte of a window": point["back"],
    }


class Acting(NamedTuple):
    """What actors cost."""

    play: Fit
    learn: Fit
    hand: dict[str, Fit]  # of each engine
    busy: dict[str, float]  # of each engine: all that is no wait takes so many times

    def parts(self, engine, point, cores):
        """Seconds that a window takes at least, for each thing that may hold it up.

        In turn all is one sum. Threads share Python's lock. Actors of Ray are processes,
        on so many cores, and the learner fetches what each of them has played.
        """
        sleeps = point["actors"] * point["each"] * PART * point["wait"]
        playing = self.play.of(played(point))
        waits = sleeps + playing.pop("a sleep, beyond its length")
        works, learns = sum(playing.values()), self.learn.seconds(learned(point))
        count, costs = point["actors"], self.hand[engine].costs
        shares = costs["a byte of parameters"] * 4 * point["parameters"]
        back = costs["a byte of a window"] * STEP_BYTES * point["each"] * PART
        jobs = count * (costs["a job"] + back)
        slow = self.busy.get(engine, 1.0)
        works, learns, jobs, shares = (slow * x for x in (works, learns, jobs, shares))
        one = (waits + works + jobs) / count
        if engine == "inline":
            return {"all in turn": waits + works + jobs + shares + learns}
        if engine == "threads":
            lock = works + jobs + shares + learns
            return {"an actor's own window": one, "Python's lock": lock}
        return {
            "an actor's own window": one,
            "the cores": (works + learns + jobs + shares) / cores,
            "the learner": learns + jobs + shares,
        }

    def rate(self, engine, point, cores):
        """Environment steps per second, and what holds them up."""
        parts = self.parts(engine, point, cores)
        limit = max(parts, key=lambda name: parts[name])
        return point["actors"] * point["each"] * PART / parts[limit], limit


def acting_fit(actors, share):
    """The costs of playing in turn, of learning, and of handing over."""
    inline = [p for p in actors["points"] if p["engine"] == "inline"]
    for p in inline:
        sleeps = p["actors"] * p["each"] * PART * p["wait"]
        p["playing"] = p["seconds"] - p["learning"] - sleeps
    engines = {p["engine"] for p in share["points"]}
    acting = Acting(
        fit(inline, played, "playing"),
        fit(inline, learned, "learning"),
        {
            name: fit([p for p in share["points"] if p["engine"] == name], handed)
            for name in sorted(engines)
        },
        {},
    )
    busy = {}
    for name in ("threads", "ray"):
        points = [p for p in actors["points"] if p["engine"] == name and not p["wait"]]
        parts = [max(acting.parts(name, p, actors["cores"]).values()) for p in points]
        off = [np.log(p["seconds"] / x) for p, x in zip(points, parts, strict=True)]
        busy[name] = float(np.exp(np.mean(off)))
    return acting._replace(busy=busy)


def forecast(acting, actors):
    """Print windows of the other engines; no fit has seen those whose steps wait."""
    print("\n### Threads and Ray: a forecast beside the measurement\n")
    factors = ", ".join(f"{x:.2f} for {name}" for name, x in acting.busy.items())
    print(
        f"All that is no wait takes {factors} times what the costs above say: the one"
    )
    print("figure that is fitted here, to the windows without waits.")
    table(
        *("engine", "actors", "environments of each", "a step waits", "parameters"),
        *("measured ms", "forecast ms"),
    )
    off = []
    for p in actors["points"]:
        if p["engine"] != "inline":
            seconds = max(acting.parts(p["engine"], p, actors["cores"]).values())
            off.append(np.log(seconds / p["seconds"]))
            words = (p["engine"], p["actors"], p["each"], f"{1000 * p['wait']:g} ms")
            words += (p["parameters"], f"{1000 * p['seconds']:.3g}")
            words += (f"{1000 * seconds:.3g} ({seconds / p['seconds']:.2f} of it)",)
            row(*words)
    print(
        f"\ntypically off by a factor of {np.exp(np.sqrt(np.mean(np.square(off)))):.2f}"
    )
