"""What a window costs on devices, hosts and actors: a model fitted to `scale.json`.

python -m tests.benchmarks.scale_model

Prints the fits with what they miss, forecasts beside measurements that no fit has seen,
and then answers for sizes that were not measured: those are extrapolated.
`tests.benchmarks.scale_measure` writes `scale.json` on the machine that it runs on.
"""

import json

from tests.benchmarks.scale_fit import (
    STATE,
    acting_fit,
    devices_fit,
    forecast,
    line_fit,
    row,
    seeds_fit,
    table,
    window_of,
)
from tests.benchmarks.scale_measure import FIGURES

DISPATCH = 0.5  # seconds of a dispatch, which optix.run.pace aims at
CORES = 64  # of the actors
REMEDY = {
    "an actor's own window": "more actors, or fewer environments of each",
    "Python's lock": "engine ray",
    "the cores": "more machines for Ray",
    "the learner": "longer windows, a smaller network, an accelerator for it",
    "all in turn": "threads where a step waits, else Ray",
    "a message of a mean": "more environments, fewer minibatches; then seeds",
    "a byte of a mean": "more environments, a faster network; then seeds",
    "a window": "nothing: it does not divide; then seeds",
}  # fmt: skip


def devices(fits):
    """One run on more devices than there are cores, each as fast as a core."""
    print(
        "\n### One run on D devices, each like one core (extrapolated beyond the cores)"
    )
    table(
        "between", "steps", "parameters", "8", "64", "512", "most that pay", "holds up"
    )
    mean = fits["mean"].costs
    network = {
        "a message of a mean": mean["a mean"] / 2,
        "a byte of a mean": mean["a byte"],
    }
    near = fits["devices"]
    for where, fit in (
        ("one machine", near),
        ("hosts", near._replace(costs={**near.costs, **network})),
    ):
        for steps, parameters in ((2**13, 10**4), (2**20, 10**4), (2**20, 10**6)):

            def cost(count, fit=fit, steps=steps, parameters=parameters):
                return fit.of(window_of(count, steps, parameters, count))

            alone = sum(cost(1).values())
            gains = [f"{alone / sum(cost(n).values()):.3g}x" for n in (8, 64, 512)]
            best = min((2**k for k in range(13)), key=lambda n: sum(cost(n).values()))
            shared = {n: s for n, s in cost(best).items() if n in REMEDY}
            limit = max(shared, key=lambda name: shared[name])
            row(where, steps, parameters, *gains, best, limit)


def hosts(fits, agree):
    """What seeds over hosts cost, which never meet."""
    # on wall clock and signals, the count of rounds, what is due; reports and counters
    asks = 3 * agree + 2 * fits["gather"].costs["a gather"]
    print(
        f"\n### Seeds over hosts\n\nTwo on one machine agree for {1000 * asks:.2g} ms"
    )
    print(f"of a dispatch of {DISPATCH} s; on a network it is five round trips more.")
    table("parameters", "seeds", "gathering and writing a checkpoint (extrapolated), s")
    for parameters, seeds in ((10**4, 64), (10**6, 64), (10**6, 512)):
        size = {"a byte": STATE * parameters * seeds}
        gathers = fits["gather"].seconds({"a gather": 1.0, **size})
        writes = fits["disk"].seconds({"a checkpoint": 1.0, **size})
        row(parameters, seeds, f"{gathers:.2g} and {writes:.2g}")


def point(count, wait, each=1, parameters=10**4):
    """Actors of a kind."""
    return {"actors": count, "each": each, "wait": wait, "parameters": parameters}


def actors(acting):
    """Steps per second of each engine, and what holds it up."""
    print(
        f"\n### Actors of one environment, 10 k parameters, {CORES} cores (extrapolated)"
    )
    table(
        "a step waits",
        "actors",
        "in turn",
        "threads",
        "Ray",
        "what holds Ray up",
        "then",
    )
    for wait in (0.0, 2e-3, 2e-2):
        for count in (1, 10, 100, 1000):
            rates = [
                acting.rate(name, point(count, wait), CORES)
                for name in ("inline", "threads", "ray")
            ]
            limit = rates[-1][1]
            told = [f"{rate:,.0f}" for rate, _ in rates]
            row(f"{1000 * wait:g} ms", count, *told, limit, REMEDY[limit])
    print("\nBy parameters, 10 actors whose step waits 2 ms:")
    table("parameters", "in turn", "threads", "Ray", "what holds Ray up")
    for parameters in (10**4, 10**6, 10**8):
        given = point(10, 2e-3, 1, parameters)
        rates = [
            acting.rate(name, given, CORES) for name in ("inline", "threads", "ray")
        ]
        row(parameters, *(f"{rate:,.3g}" for rate, _ in rates), rates[-1][1])


def crossing(acting, slow, fast, count, cores, gain):
    """The shortest wait at which one engine has so many times the rate of another."""
    for wait in (0.0, *(1e-6 * 1.25**k for k in range(60))):
        rates = [
            acting.rate(name, point(count, wait), cores)[0] for name in (slow, fast)
        ]
        if rates[1] >= gain * rates[0]:
            return f"{1000 * wait:.2g} ms"
    return "never"


def crossings(acting):
    """Where lockstep, threads and Ray cross."""
    print("\n### A step must wait so long until the second is 1.1 times as fast")
    table("cores", "actors", "in turn, threads", "in turn, Ray", "threads, Ray")
    pairs = (("inline", "threads"), ("inline", "ray"), ("threads", "ray"))
    for cores in (2, CORES):
        for count in (2, 8, 64):
            row(cores, count, *(crossing(acting, *p, count, cores, 1.1) for p in pairs))


def answer(fits, acting, agree):
    """Print all answers."""
    print("\n## What the model says")
    devices(fits)
    hosts(fits, agree)
    actors(acting)
    crossings(acting)
    print("\n### What is held up, and what to change\n")
    for limit, remedy in REMEDY.items():
        print(f"- {limit}: {remedy}")


def main():
    figures = json.loads(FIGURES.read_text())
    for name, part in figures.items():
        low, high = part["load"]
        print(f"- {name}: {part['cores']} cores, load average {low:.1f} to {high:.1f}")
    fits = {
        "devices": devices_fit(figures["devices"]),
        "seeds": seeds_fit(figures["seeds"]),
        "disk": line_fit(figures["disk"]["points"], "checkpoint"),
    }
    for what in ("mean", "gather"):
        points = [p for p in figures["hosts"]["points"] if p["what"] == what]
        fits[what] = line_fit(points, what)
    acting = acting_fit(figures["actors"], figures["share"])
    fits |= {"playing": acting.play, "learning": acting.learn}
    fits |= {f"handing over, {name}": f for name, f in acting.hand.items()}
    for name, each in fits.items():
        each.tell(name)
    forecast(acting, figures["actors"])
    agree = next(p for p in figures["hosts"]["points"] if p["what"] == "agree")
    answer(fits, acting, agree["seconds"])


if __name__ == "__main__":
    main()
