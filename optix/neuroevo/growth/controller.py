"""When a network grows, is pruned and merged: a transform of the autonomous loop.

A region grows when three signals agree, each of which can be switched off:

1. the scores are flat: less than so many of their standard deviations are left to gain;
2. around a smooth curve they still hang together: something is there that the network
   does not get hold of;
3. the gradients of enough hidden neurons point somewhere: what is there is being used.

Whether scores that hang together show missing capacity is an assumption, not a law.
Compare with `trigger="random"`, which grows by chance with the same budget.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from numbers import Real
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from optix import checks
from optix.math.residuals import residual_test
from optix.math.statistics import slope_test
from optix.neuroevo.graph.cells import CELLS, KINDS, is_gated
from optix.neuroevo.graph.graph import NeuronGraph, Weights, is_hidden
from optix.neuroevo.growth.activity import graph_of, replay
from optix.neuroevo.growth.gradients import gradient_moments, utilised
from optix.neuroevo.growth.importance import activity, importance
from optix.neuroevo.growth.upkeep import (
    Running,
    change_if,
    merge_alike,
    prune_edges,
    prune_idle,
    weak_edges,
)
from optix.neuroevo.topology.grow import OPERATORS
from optix.types import PyTree, Transform

SIGNALS = ("flat", "structured", "utilised")
TRIGGERS = ("signals", "random", "never")
HYPERPARAMS = {  # name: (default, low, high), the range in which it makes sense
    "gain_limit": (1.0, 0.0, 1e9),  # standard deviations left to gain that are flat
    "structure_limit": (1.645, -1e9, 1e9),  # z of the autocorrelation around a cubic
    "utilisation_limit": (0.5, 0.0, 1.0),  # share of hidden neurons in use
    "growth_rate": (0.02, 0.0, 1.0),  # chance of growth in a round by trigger "random"
    "cooldown": (20.0, 0.0, 1e9),  # rounds between two growths of a region
    "max_growths": (1e9, 0.0, 1e9),  # budget of a run, all regions
    "weight_limit": (1e-3, 0.0, 1e9),  # an edge below it is weak
    "patience": (10.0, 1.0, 1e4),  # rounds in a row until a weak edge goes
    "importance_limit": (1e-4, 0.0, 1e9),  # a neuron below it goes
    "correlation_limit": (0.95, 0.0, 1.0),  # two neurons above it are merged
    "maturity": (30.0, 0.0, 1e4),  # rounds for which what is new is left alone
}
# scores that the signals look at: so many that, of scores that hang together, "less than
# one deviation to gain" can be said at all
_WINDOW = 200
_PREFIX = "topology/"


class Counts(NamedTuple):
    """What has happened so far."""

    grown: jax.Array  # [] int32 growths
    pruned_edges: jax.Array  # [] int32
    pruned_neurons: jax.Array  # [] int32
    merged: jax.Array  # [] int32


class ControllerState(NamedTuple):
    """What the controller remembers; it travels with the policy."""

    scores: jax.Array  # [200] float32 oldest first
    count: jax.Array  # [] int32 scores since the last growth
    rested: jax.Array  # [R] int32 rounds since a region grew
    age: jax.Array  # [N] int32 rounds since a neuron came
    weak: jax.Array  # [D + 1, N, N] int32 rounds in a row; below 0 while it is new
    counts: Counts


def topology_controller(
    graph: NeuronGraph,
    *,
    signals: Sequence[str] = SIGNALS,
    trigger: str = "signals",
    operator: str = "neuron",
    kind: str = "tanh",
    max_neurons: int | Sequence[int] | Mapping[int, int] | None = None,
    min_hidden: int = 1,
    min_scores: int = 40,
    merge_every: int = 50,
    prune: bool = True,
    **hyperparams: float,
) -> Transform:
    """Return the transform that changes the topology of a graph policy.

    Give the loop the same graph as `network=`; free slots are room to grow.

    Args:
      graph: that the policy begins with.
      signals: those that must agree for a region to grow, of `SIGNALS`; () always grows.
      trigger: "signals", or "random" as a control, or "never".
      operator: what grows, one of `optix.neuroevo.topology.grow.OPERATORS`: "neuron" and
        "duplicate" add neurons, "edge" an edge; "split" adds a linear neuron, which is no
        new capacity.
      kind: of the neurons that operator "neuron" adds.
      max_neurons: of all roles in each region, one number for all, one for each in turn
        (as `Brain.caps` gives them) or {region: number}; None for no limit but the
        capacity.
      min_hidden: hidden neurons of a region that pruning and merging leave.
      min_scores: rounds since the last growth before the signals say anything; they look
        at the latest half of them, but at so many at least, and at 200 at most.
      merge_every: rounds between two looks for neurons that do the same.
      prune: remove weak edges and idle neurons and merge equal ones.
      **hyperparams: defaults of the traced floats in `HYPERPARAMS`, which the loop knows
        as "topology/NAME".

    Raises:
      ValueError: unknown names, sizes below one, floats out of range, no room to grow;
        from `init`, a policy whose optimizer does not follow a graph.

    >>> from optix.neuroevo.graph.build import layered
    >>> controller = topology_controller(layered(4, (), 3, capacity=16), cooldown=40)
    >>> controller.hyperparams["topology/cooldown"]
    40.0
    """
    checks.record("graph", graph, NeuronGraph, "build one by GraphBuilder or layered")
    checks.known_names("signal", signals, SIGNALS)
    checks.known_names("trigger", [trigger], TRIGGERS)
    checks.known_names("operator", [operator], OPERATORS)
    checks.known_names("kind of neuron", [kind], KINDS)
    checks.positive_int("min_hidden", min_hidden, 0)
    if not 10 <= checks.positive_int("min_scores", min_scores) <= _WINDOW:
        raise ValueError(f"min_scores must be 10 to {_WINDOW}, got {min_scores}")
    checks.positive_int("merge_every", merge_every)
    floats = checks.floats(
        "hyperparameter of topology_controller", hyperparams, HYPERPARAMS
    )
    num_regions = int(graph.structure.region.max()) + 1
    limits = _limits(graph, max_neurons, num_regions)
    if trigger != "never":
        _check_room(graph, operator, kind)
    grow = OPERATORS[operator]
    if operator == "neuron":
        grow = partial(grow, kind=kind)

    def init(policy):
        if "utilised" in signals:
            gradient_moments(policy.opt_state)  # refuses what has none
        size = graph.capacity
        return ControllerState(
            scores=jnp.zeros(_WINDOW),
            count=jnp.int32(0),
            rested=jnp.full(num_regions, jnp.iinfo(jnp.int32).max // 2),
            age=jnp.zeros(size, jnp.int32),
            weak=jnp.zeros((graph.max_delay + 1, size, size), jnp.int32),
            counts=Counts(*(jnp.int32(0) for _ in Counts._fields)),
        )

    def ready_to_grow(state, policy, own, limits_now, key):
        """Which regions the trigger wants to grow, [R] bool."""
        if trigger == "never":
            return jnp.zeros(num_regions, bool)
        rested = state.rested >= limits_now["cooldown"]
        if trigger == "random":
            return rested & (jax.random.uniform(key) < limits_now["growth_rate"])
        wanted = rested & (state.count >= min_scores)
        # the latest half, without what was learned before
        window = jnp.clip(state.count // 2, min_scores, _WINDOW)
        if "flat" in signals:
            gain = slope_test(state.scores, window).gain_limit
            wanted &= gain < limits_now["gain_limit"]
        if "structured" in signals:
            z = residual_test(state.scores, window).z
            wanted &= z > limits_now["structure_limit"]
        if "utilised" in signals:
            busy = utilised(own.structure, gradient_moments(policy.opt_state))
            share = jax.vmap(lambda region: _share(own, busy, region))
            wanted &= share(jnp.arange(num_regions)) >= limits_now["utilisation_limit"]
        return wanted

    def tend(running, region, state, active, rank, limits_now, due):
        """Prune an idle neuron of a region, or merge two that do the same."""
        own = running.graph.structure
        hidden = is_hidden(running.graph) & (own.region == region)
        mature = hidden & (state.age >= limits_now["maturity"])
        mature &= hidden.sum() > min_hidden
        idle = mature & (rank < limits_now["importance_limit"])
        running, pruned = prune_idle(running, active, rank, idle)
        working = mature & ~idle & due & ~pruned
        limit = limits_now["correlation_limit"]
        running, merged = merge_alike(running, active, rank, working, limit)
        counts = state.counts._replace(
            pruned_neurons=state.counts.pruned_neurons + pruned,
            merged=state.counts.merged + merged,
        )
        return running, state._replace(counts=counts), pruned | merged

    def change_region(carried, inputs, active, rank, limits_now, due):
        """Prune, merge or grow one region; at most one of the three."""
        running, state = carried
        region, wanted, key = inputs
        changed = jnp.bool_(False)
        if prune:
            running, state, changed = tend(
                running, region, state, active, rank, limits_now, due
            )
        own, counts = running.graph.structure, state.counts
        size = (own.alive & (own.region == region)).sum()
        wanted &= (size < limits[region]) & (counts.grown < limits_now["max_growths"])
        running, grown = change_if(
            wanted & ~changed, lambda g: grow(g, region, key, rank), running
        )
        rested = state.rested.at[region].set(jnp.where(grown, 0, state.rested[region]))
        state = state._replace(
            counts=counts._replace(grown=counts.grown + grown),
            rested=rested,
            count=jnp.where(grown | changed, 0, state.count),
        )
        return (running, state), None

    def update(state, policy, rollout, report, signals):
        limits_now = {name: signals.hyperparams[_PREFIX + name] for name in HYPERPARAMS}
        growth_key, place_key = jax.random.split(signals.key)
        before = graph_of(graph, policy)
        active = activity(replay(graph, policy, report.trajectory))
        rank = importance(before, active)
        state = _observe(state, before, signals.score, limits_now)
        running = Running(before, _memory(rollout))
        if prune:
            weak = state.weak >= limits_now["patience"]
            running, pruned = prune_edges(running, weak)
            pruned = state.counts.pruned_edges + pruned
            state = state._replace(counts=state.counts._replace(pruned_edges=pruned))
        inputs = (
            jnp.arange(num_regions),
            ready_to_grow(state, policy, running.graph, limits_now, growth_key),
            jax.random.split(place_key, num_regions),
        )
        due = (signals.round + 1) % merge_every == 0
        (running, state), _ = jax.lax.scan(
            lambda carried, inputs: change_region(
                carried, inputs, active, rank, limits_now, due
            ),
            (running, state),
            inputs,
        )
        after = running.graph
        state = _remember_changes(state, before, after, limits_now)
        policy = policy._replace(
            params=after.weights,
            structure=after.structure,
            extras=_followed(policy.extras, before, after),
        )
        return state, policy, _with_memory(rollout, running.memory), {}

    return Transform(init, update, {_PREFIX + n: value for n, value in floats.items()})


def _observe(state, graph, score, limits):
    """The state one round older; a score that is not finite is no measurement."""
    finite = jnp.isfinite(score)
    pushed = jnp.append(state.scores[1:], score)
    weak = weak_edges(graph, limits["weight_limit"]) | (state.weak < 0)
    return state._replace(
        scores=jnp.where(finite, pushed, state.scores),
        count=state.count + finite,
        rested=state.rested + 1,
        age=state.age + 1,
        weak=jnp.where(weak, state.weak + 1, 0),
    )


def _remember_changes(state, before, after, limits):
    """Ages of what is new begin anew."""
    old, new = before.structure, after.structure
    # a region may have taken a slot that another one left in the same round
    fresh = new.alive & (~old.alive | (new.region != old.region))
    maturity = limits["maturity"].astype(jnp.int32)
    changed = new.version.edge != old.version.edge
    weak = jnp.where(new.edge & changed, -maturity, jnp.where(new.edge, state.weak, 0))
    return state._replace(age=jnp.where(fresh, 0, state.age), weak=weak)


def _followed(extras: PyTree, before: NeuronGraph, after: NeuronGraph) -> PyTree:
    """A target network takes over the entries that have changed."""
    target = getattr(extras, "target", None)
    if not isinstance(target, Weights):
        return extras
    versions = before.structure.version, after.structure.version
    changed = jax.tree.map(lambda old, new: old != new, *versions)
    target = jax.tree.map(jnp.where, changed, after.weights, target)
    return extras._replace(target=target)


def _share(graph, busy, region):
    """The share of a region's hidden neurons that are busy, 1 if there are none."""
    hidden = is_hidden(graph) & (graph.structure.region == region)
    number = hidden.sum()
    return jnp.where(number > 0, (hidden & busy).sum() / jnp.maximum(number, 1), 1.0)


def _memory(rollout: PyTree) -> PyTree:
    """The carry of a learner's rollout."""
    return getattr(rollout, "envs", rollout).carry


def _with_memory(rollout: PyTree, carry: PyTree) -> PyTree:
    if hasattr(rollout, "envs"):
        return rollout._replace(envs=rollout.envs._replace(carry=carry))
    return rollout._replace(carry=carry)


def _check_room(graph: NeuronGraph, operator: str, kind: str) -> None:
    """Raise where the operator would be refused at every try."""
    structure = graph.structure
    if operator != "edge" and structure.alive.all():
        raise ValueError(
            f"all {graph.capacity} slots are taken, so the graph can not grow; build it "
            "with a larger capacity, or use grow_capacity"
        )
    hidden = is_hidden(graph)
    if operator == "duplicate" and not hidden.any():
        raise ValueError(
            "operator 'duplicate' needs a hidden neuron, got a graph without; operator "
            "'neuron' grows from none"
        )
    copied = operator == "duplicate" and is_gated(structure.kind[hidden]).all()
    gated = copied or (operator == "neuron" and kind in CELLS)
    if gated and (structure.cell < graph.capacity).all():
        raise ValueError(
            f"all {graph.max_cells} slots for gated cells are taken, so the graph can not "
            "grow; build it with a larger max_cells, or use grow_capacity"
        )


def _limits(graph: NeuronGraph, given: Any, num_regions: int) -> jax.Array:
    """The largest number of neurons of each region, [R] int32."""
    if given is None:
        given = graph.capacity
    if isinstance(given, Real):
        given = [given] * num_regions
    if not isinstance(given, Mapping):
        if len(given) != num_regions:
            raise ValueError(
                f"max_neurons must have a number for each of the {num_regions} regions, "
                f"got {given!r}; {{region: number}} may leave some out"
            )
        given = dict(enumerate(given))
    for region in given:
        if region not in range(num_regions):
            raise ValueError(
                f"max_neurons must name regions 0 to {num_regions - 1}, got {region!r}"
            )
    limits = [
        checks.positive_int("max_neurons", given.get(region, graph.capacity))
        for region in range(num_regions)
    ]
    return jnp.array(limits, jnp.int32)
