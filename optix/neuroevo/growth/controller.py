"""When a network grows, is pruned and merged: a transform of the autonomous loop.

A region grows when the `conditions` agree, each of which can be switched off. What does
nothing, see `working` of `graph`, counts nowhere, and pruning frees its slot.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp

from optix import checks
from optix.neuroevo.graph.cells import check_kinds
from optix.neuroevo.graph.graph import NeuronGraph, is_hidden, working
from optix.neuroevo.growth.activity import graph_of, replay
from optix.neuroevo.growth.conditions import (
    CONDITIONS,
    TRIGGERS,
    WINDOW,
    by_chance,
    scores_agree,
    shares_in_use,
)
from optix.neuroevo.growth.gradients import gradient_moments
from optix.neuroevo.growth.importance import Activity, activity, importance
from optix.neuroevo.growth.room import check_room, region_limits
from optix.neuroevo.growth.upkeep import (
    Running,
    change_if,
    followed,
    free_stranded,
    hidden_kept,
    memory_of,
    merge_alike,
    prune_edges,
    prune_idle,
    weak_edges,
    with_memory,
)
from optix.neuroevo.topology.draft import Mutation
from optix.neuroevo.topology.grow import OPERATORS
from optix.types import Transform

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


class Rules(NamedTuple):
    """What a controller was told; static but for the limits."""

    conditions: tuple[str, ...]
    trigger: str
    grow: Callable[..., Mutation]
    limits: jax.Array  # [R] int32 the most neurons of a region
    min_hidden: int
    min_scores: int
    merge_every: int
    prune: bool


class Round(NamedTuple):
    """What a round has shown."""

    active: Activity
    rank: jax.Array  # [N] float32 importance
    limits: dict[str, jax.Array]  # hyperparameters
    due: jax.Array  # [] bool it is time to merge


def topology_controller(
    graph: NeuronGraph,
    *,
    conditions: Sequence[str] = CONDITIONS,
    trigger: str = "conditions",
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
      conditions: those that must agree for a region to grow, of `CONDITIONS`; () always
        grows.
      trigger: "conditions", or "random" as a control, or "never".
      operator: what grows, one of `optix.neuroevo.topology.grow.OPERATORS`: "neuron" and
        "duplicate" add neurons, "edge" an edge; "split" adds a linear neuron, which is no
        new capacity.
      kind: of the neurons that operator "neuron" adds, one of `graph.kinds`.
      max_neurons: of all roles in each region, one number for all, one for each in turn
        (as `Brain.caps` gives them) or {region: number}; None for no limit but the
        capacity.
      min_hidden: hidden neurons of a region that pruning and merging leave.
      min_scores: rounds since the last growth before the conditions say anything; they
        look at the latest half of them, but at so many at least, and at 200 at most.
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
    if isinstance(conditions, str) or not isinstance(conditions, Sequence):
        raise checks.OptionError(
            f"conditions must be a sequence of names, got {conditions!r}"
        )
    checks.known_names("conditions", conditions, CONDITIONS)
    checks.known_names("trigger", [trigger], TRIGGERS)
    checks.known_names("operator", [operator], OPERATORS)
    check_kinds([kind])
    if operator == "neuron" and kind not in graph.kinds:
        raise checks.OptionError(
            f"kind must be one that the graph may have, {', '.join(graph.kinds)}, got "
            f"{kind!r}; build it as graph.with_kinds({kind!r})"
        )
    checks.positive_int("min_hidden", min_hidden, 0)
    if not 10 <= checks.positive_int("min_scores", min_scores) <= WINDOW:
        raise checks.OptionError(f"min_scores must be 10 to {WINDOW}, got {min_scores}")
    checks.positive_int("merge_every", merge_every)
    floats = checks.floats(
        "hyperparameter of topology_controller", hyperparams, HYPERPARAMS
    )
    num_regions = int(graph.structure.region.max()) + 1
    rules = Rules(
        tuple(conditions),
        trigger,
        partial(OPERATORS[operator], kind=kind)
        if operator == "neuron"
        else OPERATORS[operator],
        region_limits(graph, max_neurons, num_regions),
        min_hidden,
        min_scores,
        merge_every,
        checks.boolean("prune", prune),
    )
    if trigger != "never":
        check_room(graph, operator, kind)

    def init(policy):
        graph_of(graph, policy)  # refuses another one
        if "utilised" in conditions:
            gradient_moments(policy.opt_state)  # refuses what has none
        return _begin(graph, num_regions)

    return Transform(
        init,
        partial(_update, rules, graph),
        {_PREFIX + n: value for n, value in floats.items()},
    )


def _begin(graph, num_regions):
    size = graph.capacity
    return ControllerState(
        scores=jnp.zeros(WINDOW),
        count=jnp.int32(0),
        rested=jnp.full(num_regions, jnp.iinfo(jnp.int32).max // 2),
        age=jnp.zeros(size, jnp.int32),
        weak=jnp.zeros((graph.max_delay + 1, size, size), jnp.int32),
        counts=Counts(*(jnp.int32(0) for _ in Counts._fields)),
    )


def _update(rules, graph, state, policy, rollout, report, signals):
    """A round of the controller, as `Transform.update`."""
    limits = {name: signals.hyperparams[_PREFIX + name] for name in HYPERPARAMS}
    growth_key, place_key = jax.random.split(signals.key)
    before = graph_of(graph, policy)
    active = activity(replay(graph, policy, report.trajectory))
    due = (signals.round + 1) % rules.merge_every == 0
    seen = Round(active, importance(before, active), limits, due)
    state = _observe(state, before, signals.score, limits)
    running = Running(before, memory_of(rollout))
    if rules.prune:
        weak = state.weak >= limits["patience"]
        kept = partial(hidden_kept, rules.min_hidden, len(rules.limits))
        running, pruned = prune_edges(running, weak, kept)
        state = _counted(state, pruned_edges=pruned)
    num_regions = len(rules.limits)
    inputs = (
        jnp.arange(num_regions),
        _ready(rules, state, policy, running.graph, limits, growth_key),
        jax.random.split(place_key, num_regions),
    )
    (running, state), _ = jax.lax.scan(
        lambda carried, inputs: (_change_region(rules, seen, carried, *inputs), None),
        (running, state),
        inputs,
    )
    if rules.prune:
        running, freed = free_stranded(running, active)
        state = _counted(state, pruned_neurons=freed)
    after = running.graph
    policy = policy._replace(
        params=after.weights,
        structure=after.structure,
        extras=followed(policy.extras, before, after),
    )
    state = _remember_changes(state, before, after, limits)
    return state, policy, with_memory(rollout, running.memory), {}


def _ready(rules, state, policy, graph, limits, key):
    """Which regions the trigger wants to grow, [R] bool."""
    num_regions = len(rules.limits)
    if rules.trigger == "never":
        return jnp.zeros(num_regions, bool)
    if rules.trigger == "random":
        return by_chance(state.rested, limits, key)
    wanted = (state.rested >= limits["cooldown"]) & scores_agree(
        rules.conditions, state.scores, state.count, rules.min_scores, limits
    )
    if "utilised" in rules.conditions:
        share = shares_in_use(graph, policy.opt_state, num_regions)
        wanted &= share >= limits["utilisation_limit"]
    return wanted


def _change_region(rules, seen, carried, region, wanted, key):
    """Prune, merge or grow one region; at most one of the three."""
    running, state = carried
    changed = jnp.bool_(False)
    if rules.prune:
        running, state, changed = _tend(rules, seen, running, region, state)
    graph = running.graph
    size = (working(graph) & (graph.structure.region == region)).sum()
    wanted &= size < rules.limits[region]
    wanted &= state.counts.grown < seen.limits["max_growths"]
    running, grown = change_if(
        wanted & ~changed, lambda g: rules.grow(g, region, key, seen.rank), running
    )
    rested = jnp.where(grown, 0, state.rested[region])
    state = state._replace(
        rested=state.rested.at[region].set(rested),
        count=jnp.where(grown | changed, 0, state.count),
    )
    return running, _counted(state, grown=grown)


def _tend(rules, seen, running, region, state):
    """Prune an idle neuron of a region, or merge two that do the same."""
    graph, limits = running.graph, seen.limits
    kept = partial(hidden_kept, rules.min_hidden, len(rules.limits))
    hidden = is_hidden(graph) & working(graph) & (graph.structure.region == region)
    mature = hidden & (state.age >= limits["maturity"])
    mature &= hidden.sum() > rules.min_hidden
    idle = mature & (seen.rank < limits["importance_limit"])
    running, pruned = prune_idle(running, seen.active, seen.rank, idle, kept)
    alike = mature & ~idle & seen.due & ~pruned
    limit = limits["correlation_limit"]
    running, merged = merge_alike(running, seen.active, seen.rank, alike, limit, kept)
    state = _counted(state, pruned_neurons=pruned, merged=merged)
    return running, state, pruned | merged


def _counted(state, **more):
    """The state after more of what it counts."""
    counts = {name: getattr(state.counts, name) + n for name, n in more.items()}
    return state._replace(counts=state.counts._replace(**counts))


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
