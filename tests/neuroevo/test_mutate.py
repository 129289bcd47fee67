"""Mutations against NumPy: every verdict, what may change, and the function kept."""

from functools import cache, partial

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import jit

from optix.neuroevo.graph.cells import KINDS
from optix.neuroevo.graph.graph import FAINTEST
from optix.neuroevo.topology import mutate, prune
from optix.neuroevo.topology.patch import Patch, apply_patch, no_patch
from tests.neuroevo import reference

MODES = ["clamp", "softplus"]
GATED = [KINDS.index(kind) for kind in KINDS if kind not in reference.POINTS]
LINEAR = KINDS.index("linear")
SIZE, DELAY = 16, 3  # of `reference.sample`

OPERATIONS = {
    "add_neuron": lambda graph, kind, sign, into, out: mutate.add_neuron(
        graph, kind, sign, 1, bias=0.5, incoming=into, outgoing=out
    ),
    "add_edge": mutate.add_edge,
    "split_edge": mutate.split_edge,
    "duplicate_neuron": mutate.duplicate_neuron,
    "prune_edge": prune.prune_edge,
    "prune_neuron": prune.prune_neuron,
    "merge_neurons": prune.merge_neurons,
}


@cache
def compiled(name, dale):
    """One operation, compiled; all tests together may trace it once for each mode."""
    traces = []

    def traced(graph, *args):
        traces.append(name)
        assert len(traces) == 1, f"{name} is traced again"
        return OPERATIONS[name](graph, *args)

    return jit(traced)


def ints(*numbers):
    return tuple(jnp.int32(number) for number in numbers)


def apply(name, graph, *args):
    return jax.device_get(compiled(name, graph.dale)(graph, *args))


def fan(ends=(), weights=(), delays=()):
    """Edges to or from some neurons."""
    edge = np.zeros((DELAY + 1, SIZE), bool)
    weight = np.full((DELAY + 1, SIZE), np.nan, np.float32)
    for end, value, delay in zip(ends, weights, delays, strict=True):
        edge[delay, end], weight[delay, end] = True, value
    return mutate.Fan(edge, weight)


# verdicts, computed anew


def hidden(graph):
    return graph.structure.alive & (np.arange(SIZE) >= graph.first_hidden)


def has_room(graph, kind):
    room = not graph.structure.alive[graph.first_hidden :].all()
    return room and (kind not in GATED or (graph.structure.cell == SIZE).any())


def is_neuron(mask, number):
    return 0 <= number < SIZE and bool(mask[number])


def has_edge(graph, source, destination, delay):
    numbers = 0 <= source < SIZE and 0 <= destination < SIZE and 0 <= delay <= DELAY
    return numbers and bool(graph.structure.edge[delay, destination, source])


def is_acyclic(graph, edge):
    return reference.levels(edge, graph.num_inputs) is not None


def should_add_neuron(graph, kind, sign, into, out):
    if not has_room(graph, kind):
        return False
    alive, slot = graph.structure.alive, np.flatnonzero(~graph.structure.alive)[0]
    edge = graph.structure.edge[0].copy()
    edge[slot], edge[:, slot] = into.edge[0], out.edge[0]
    receives = alive & (np.arange(SIZE) >= graph.num_inputs)
    return (
        not (into.edge & ~alive).any()
        and not (out.edge & ~receives).any()
        and is_acyclic(graph, edge)
    )


def should_add_edge(graph, source, destination, delay, weight):
    alive, edge = graph.structure.alive, graph.structure.edge
    if not (is_neuron(alive, source) and is_neuron(alive, destination)):
        return False
    if destination < graph.num_inputs or not 0 <= delay <= DELAY:
        return False
    after = edge[0].copy()
    after[destination, source] |= delay == 0
    return not edge[delay, destination, source] and is_acyclic(graph, after)


def should_split_edge(graph, *place):
    return has_edge(graph, *place) and has_room(graph, LINEAR)


def should_duplicate_neuron(graph, neuron):
    if not is_neuron(hidden(graph), neuron):
        return False
    return has_room(graph, graph.structure.kind[neuron])


def should_prune_edge(graph, *place):
    return has_edge(graph, *place)


def should_prune_neuron(graph, neuron):
    return is_neuron(hidden(graph), neuron)


def should_merge_neurons(graph, keep, gone, scale, offset):
    structure = graph.structure
    if not (is_neuron(hidden(graph), keep) and is_neuron(hidden(graph), gone)):
        return False
    if keep == gone or structure.kind[keep] != structure.kind[gone]:
        return False
    if scale == 0 or (structure.kind[keep] in GATED and scale != 1):
        return False
    edge = structure.edge.copy()
    edge[:, :, keep] |= edge[:, :, gone]
    edge[:, gone], edge[:, :, gone] = False, False
    for delay, destination in np.argwhere(edge[:, :, keep]):
        weight = reference.effective(graph, delay, destination, keep)
        weight += scale * reference.effective(graph, delay, destination, gone)
        against = weight * structure.sign[keep]
        if against < 0 or (
            against == 0 and structure.sign[keep] and is_softplus(graph)
        ):
            return False
    return is_acyclic(graph, edge[0])


def is_softplus(graph):
    return graph.dale == "softplus"


def draw(rng, graph):
    """A random operation and its arguments, some of them nonsense."""
    name = rng.choice(list(OPERATIONS), p=[0.15, 0.3, 0.1, 0.1, 0.1, 0.1, 0.15])
    edges = np.argwhere(graph.structure.edge)
    alive = np.flatnonzero(graph.structure.alive)
    if name == "add_neuron":

        def ends(low):
            number = rng.integers(0, 3)
            some = alive if rng.random() < 0.9 else np.arange(SIZE)
            chosen = rng.choice(some[some >= low], number)
            return fan(chosen, rng.normal(size=number), rng.integers(0, 3, number))

        kind, sign = rng.integers(0, len(KINDS)), rng.integers(-1, 2)
        low = graph.num_inputs if rng.random() < 0.9 else 0
        return name, (*ints(kind, sign), ends(0), ends(low))
    if name in ("duplicate_neuron", "prune_neuron"):
        return name, ints(rng.integers(-1, SIZE + 1))
    if name == "merge_neurons":
        some = np.flatnonzero(hidden(graph))
        kinds = graph.structure.kind[some]
        pairs = [
            (a, b)
            for a, kind in zip(some, kinds, strict=True)
            for b in some[kinds == kind]
        ]
        if pairs and rng.random() < 0.7:
            pair = pairs[rng.integers(len(pairs))]
        else:
            pair = rng.integers(-1, SIZE + 1, 2)
        return name, (
            *ints(*pair),
            jnp.float32(rng.choice([1.0, 0.5, -0.7, 0.0], p=[0.5, 0.2, 0.2, 0.1])),
            jnp.float32(rng.normal()),
        )
    if name in ("split_edge", "prune_edge") and len(edges) and rng.random() < 0.8:
        delay, destination, source = edges[rng.integers(len(edges))]
    else:
        source, destination = rng.choice(alive, 2)
        delay = rng.integers(0, 2)
        if rng.random() < 0.2:
            source, destination = rng.integers(-1, SIZE + 1, 2)
            delay = rng.integers(-1, DELAY + 2)
    place = ints(source, destination, delay)
    if name == "add_edge":
        return name, (*place, jnp.float32(rng.choice([0.0, rng.normal()])))
    return name, place


def check_invariants(graph):
    weights, structure = graph.weights, graph.structure
    alive, kind, cell = structure.alive, structure.kind, structure.cell
    level = reference.levels(structure.edge[0], graph.num_inputs)
    np.testing.assert_array_equal(structure.level, level)
    assert alive[: graph.first_hidden].all()
    assert not structure.edge[:, : graph.num_inputs].any()
    assert (
        not structure.edge[:, ~alive].any() and not structure.edge[:, :, ~alive].any()
    )
    assert not weights.edge[~structure.edge].any()
    assert not weights.bias[~alive].any() and not weights.bias[: graph.num_inputs].any()
    assert not kind[~alive].any() and not structure.sign[~alive].any()
    assert not structure.region[~alive].any()
    gated = np.flatnonzero(np.isin(kind, GATED))
    assert sorted(cell[cell < SIZE]) == list(gated) and (cell <= SIZE).all()
    assert not weights.gate[:, :, cell == SIZE].any()
    for part in weights:
        assert np.isfinite(part).all()


def check_versions(old, new):
    """One more exactly where an entry, or what it belongs to, is another."""
    was, now = old.structure, new.structure
    changed = {
        "edge": (old.weights.edge != new.weights.edge) | (was.edge != now.edge),
        "bias": (old.weights.bias != new.weights.bias) | (was.alive != now.alive),
        "gate": (old.weights.gate != new.weights.gate) | (was.cell != now.cell),
    }
    for name, change in changed.items():
        before, after = getattr(was.version, name), getattr(now.version, name)
        np.testing.assert_array_equal(after, before + change.astype(np.uint8))


@pytest.mark.parametrize("dale", MODES)
def test_random_mutations(dale):
    rng = np.random.default_rng(MODES.index(dale))
    start = reference.sample(rng, dale=dale, signed=True)
    graph, counts = start, dict.fromkeys(OPERATIONS, (0, 0))
    for number in range(500):
        if number % 100 == 99:  # all over again, before it is crowded
            graph = reference.sample(rng, dale=dale, signed=True)
        name, args = draw(rng, graph)
        expected = globals()[f"should_{name}"](graph, *args)
        new, ok, patch, neuron, lost = apply(name, graph, *args)
        assert ok == expected, (number, name, args)
        check_invariants(new)
        check_versions(graph, new)
        if not ok:
            chex.assert_trees_all_equal(new, graph)
            chex.assert_trees_all_equal(patch, no_patch(graph))
            assert lost == 0
        else:
            check_touched(name, args, graph, new, neuron)
        is_new = new.structure.alive & ~graph.structure.alive
        assert neuron == (np.flatnonzero(is_new)[0] if is_new.any() else SIZE)
        counts[name] = (counts[name][0] + ok, counts[name][1] + (not ok))
        graph = new
    assert min(min(count) for count in counts.values()) >= 5, counts


def check_touched(name, args, old, new, neuron):
    """Nothing changes where the operation has no business."""
    changed = new.structure.version.edge != old.structure.version.edge
    bias = new.structure.version.bias != old.structure.version.bias
    mine = np.zeros(SIZE, bool)
    mine[[number for number in (neuron,) if number < SIZE]] = True
    if name in ("add_edge", "prune_edge", "split_edge"):
        source, destination, delay = map(int, args[:3])
        assert changed[delay, destination, source]
        changed[delay, destination, source] = False
    if name in ("duplicate_neuron", "prune_neuron", "merge_neurons"):
        mine[args[0]] = True
    if name == "merge_neurons":
        mine[args[1]] = True
    if name == "prune_neuron":  # bypasses go from its sources to its destinations
        sources = old.structure.edge[:, args[0]].any(0)
        destinations = old.structure.edge[:, :, args[0]].any(0)
        changed &= ~(destinations[:, None] & sources)
    assert not changed[:, ~mine][:, :, ~mine].any()
    if name in ("prune_neuron", "merge_neurons"):
        mine |= old.structure.edge[:, :, args[name == "merge_neurons"]].any(0)
    assert not bias[~mine].any()


# the function


def outcomes(rng, graph, mutation, started=9, steps=6):
    """Outputs of old and new graph from rest and in the middle of an episode.

    [2, steps, O] each; the reference runs all of it.
    """
    obs = rng.standard_normal((started + steps, graph.num_inputs))
    before, state = reference.run(graph, obs[:started])
    before = np.stack([before[:steps], reference.run(graph, obs[started:], state)[0]])
    new = mutation.graph
    with jax.enable_x64(True):
        patched = jax.tree.map(np.asarray, apply_patch(state, mutation.patch))
    after = [reference.run(new, obs[:steps])[0]]
    after.append(reference.run(new, obs[started:], patched)[0])
    return reference.readout(graph, before), reference.readout(new, np.stack(after))


def assert_kept(outputs, parts=(0, 1)):
    before, after = (np.asarray(x)[list(parts)] for x in outputs)
    size = np.maximum(np.abs(before).max(), 1)
    assert size < 1e3, "the draw explodes, which shows nothing"
    np.testing.assert_allclose(after / size, before / size, rtol=0, atol=1e-5)


def samples(dale, count, **options):
    for seed in range(count):
        rng = np.random.default_rng([seed, MODES.index(dale)])
        options = {"scale": 0.5, "density": 0.2} | options
        if dale == "softplus":  # even the faintest weights of signed neurons act
            options["density"] = 0.1
        yield rng, reference.sample(rng, dale=dale, signed=seed % 4 > 0, **options)


def influences(graph):
    """Whether an output hears a neuron, over any number of steps, [N]."""
    reach = graph.structure.edge.any(0) | np.eye(SIZE, dtype=bool)
    for _ in range(5):
        reach = reach @ reach
    return reach[graph.num_inputs : graph.first_hidden].any(0)


@pytest.mark.parametrize("dale", MODES)
def test_split_keeps_the_function(dale):
    seen = set()
    for rng, graph in samples(dale, 12):
        heard = influences(graph)
        for delay in range(DELAY + 1):
            edges = np.argwhere(graph.structure.edge[delay] & heard[:, None])
            if not len(edges):
                continue
            destination, source = edges[rng.integers(len(edges))]
            mutation = apply("split_edge", graph, *ints(source, destination, delay))
            assert mutation.ok and mutation.lost < 1e-5
            assert_kept(outcomes(rng, graph, mutation))
            seen.add((delay, int(graph.structure.sign[source])))
    assert seen == {(delay, sign) for delay in range(DELAY + 1) for sign in (-1, 0, 1)}


def test_split_without_the_patch_changes_a_running_episode():
    rng = np.random.default_rng(0)
    graph = reference.sample(rng, kinds=["tanh"], density=0.5)
    destination, source = np.argwhere(graph.structure.edge[3])[0]
    mutation = apply("split_edge", graph, *ints(source, destination, 3))
    unpatched = mutation._replace(patch=no_patch(graph))
    before, after = outcomes(rng, graph, unpatched)
    assert (
        np.abs(after - before)[0].max() < 1e-5 < 1e-3 < np.abs(after - before)[1].max()
    )


@pytest.mark.parametrize("dale", MODES)
def test_duplicate_keeps_the_function(dale):
    kinds, self_loops = set(), 0
    for rng, graph in samples(dale, 24, density=0.3, hidden=5):
        for neuron in _by_rarity(rng, graph, kinds)[:2]:
            mutation = apply("duplicate_neuron", graph, *ints(neuron))
            kind = graph.structure.kind[neuron]
            if kind in GATED and (graph.structure.cell < SIZE).all():
                assert not mutation.ok
                continue
            assert mutation.ok and mutation.lost < 1e-4
            assert_kept(outcomes(rng, graph, mutation))
            kinds.add(KINDS[kind])
            self_loops += bool(graph.structure.edge[:, neuron, neuron].any())
    assert kinds == set(KINDS) and self_loops >= 5


def _by_rarity(rng, graph, seen):
    """Hidden neurons, kinds that have not been seen first."""
    neurons = rng.permutation(np.flatnonzero(hidden(graph)))
    return sorted(
        neurons, key=lambda number: KINDS[graph.structure.kind[number]] in seen
    )


@pytest.mark.parametrize("dale", MODES)
def test_a_duplicate_merges_back(dale):
    """What `duplicate` copies `merge` folds, self loops and gated cells included."""
    for rng, graph in samples(dale, 12, density=0.3, hidden=5):
        neuron = rng.choice(np.flatnonzero(hidden(graph)))
        copied = apply("duplicate_neuron", graph, *ints(neuron))
        if not copied.ok:
            continue
        pair = (
            (neuron, copied.neuron) if rng.random() < 0.5 else (copied.neuron, neuron)
        )
        args = (*ints(*pair), jnp.float32(1), jnp.float32(0))
        merged = apply("merge_neurons", copied.graph, *args)
        assert merged.ok and merged.lost < 1e-5
        assert_kept(outcomes(rng, copied.graph, merged))


@pytest.mark.parametrize("scale", [0.5, -2.0])
def test_merge_folds_scale_and_offset(scale):
    """A linear neuron that is an affine function of another."""
    merges = 0
    for seed in range(8):
        rng = np.random.default_rng(seed)
        graph = reference.sample(
            rng, kinds=["linear", "tanh"], hidden=5, scale=0.5, density=0.2
        )
        keep = rng.choice(np.flatnonzero(hidden(graph)))
        graph = _as_linear(graph, keep)
        # the other one listens to what `keep` hears, times scale, and has a bias
        into = mutate.Fan(
            graph.structure.edge[:, keep], scale * graph.weights.edge[:, keep]
        )
        if into.edge[:, keep].any():
            continue  # of its own past the other one would need to hear its own
        higher = graph.structure.level > graph.structure.level[keep]
        receivers = np.flatnonzero(higher & graph.structure.alive)
        out = fan(receivers, [0.6] * len(receivers), [0] * len(receivers))
        out.edge[2, receivers], out.weight[2, receivers] = True, -0.4
        added = apply("add_neuron", graph, *ints(LINEAR, 0), into, out)
        assert added.ok
        offset = (
            added.graph.weights.bias[added.neuron] - scale * graph.weights.bias[keep]
        )
        args = (*ints(keep, added.neuron), jnp.float32(scale), jnp.float32(offset))
        merged = apply("merge_neurons", added.graph, *args)
        assert merged.ok and merged.lost == 0
        assert_kept(outcomes(rng, added.graph, merged), parts=[1])
        merges += len(receivers) > 0
    assert merges >= 3


def _as_linear(graph, neuron):
    kind = graph.structure.kind.copy()
    kind[neuron] = LINEAR
    return graph.replace(structure=graph.structure._replace(kind=kind))


@pytest.mark.parametrize("dale", MODES)
def test_prune_bypasses_linear_neurons(dale):
    exact = 0
    for rng, graph in samples(dale, 40, density=0.1, hidden=8):
        neuron = rng.choice(np.flatnonzero(hidden(graph)))
        if graph.structure.kind[neuron] in GATED:
            continue
        graph = _as_linear(graph, neuron)
        if rng.random() < 0.7:  # nothing is too long
            graph.structure.edge[2:, neuron] = False
            graph.structure.edge[3, :, neuron] = False
        mutation = apply("prune_neuron", graph, *ints(neuron))
        assert mutation.ok
        edge = graph.structure.edge
        into = [(d, u) for d, u in np.argwhere(edge[:, neuron])]
        out = [(d, v) for d, v in np.argwhere(edge[:, :, neuron])]
        lost = _lost_paths(graph, neuron, into, out)
        np.testing.assert_allclose(mutation.lost, lost, atol=1e-4)
        if lost < 1e-6:
            exact += bool(into and out)
            at_once = all(delay == 0 for delay, _ in out)
            assert_kept(outcomes(rng, graph, mutation), [0, 1] if at_once else [1])
    assert exact >= 4


def _lost_paths(graph, neuron, into, out):
    """Absolute weights of paths that are too long or that Dale's law forbids."""
    weight = partial(reference.effective, graph)
    if any(source == neuron for _, source in into):
        return sum(abs(weight(d, v, neuron)) for d, v in out if v != neuron)
    lost, bypass = 0.0, {}
    for first, source in into:
        for second, destination in out:
            value = weight(first, neuron, source) * weight(second, destination, neuron)
            place = (first + second, destination, source)
            if first + second > DELAY:
                lost += abs(value)
            else:
                bypass[place] = bypass.get(place, 0.0) + value
    for (delay, destination, source), value in bypass.items():
        total = value + weight(delay, destination, source)
        sign = graph.structure.sign[source]
        if total * sign < 0:
            there = graph.structure.edge[delay, destination, source]
            faintest = np.log1p(np.exp(FAINTEST)) if is_softplus(graph) and there else 0
            lost += abs(total) + faintest
    return lost


def test_prune_of_others_leaves_their_mean():
    rng = np.random.default_rng(0)
    graph = reference.sample(rng, kinds=["tanh"], density=0.4)
    neuron = np.flatnonzero(hidden(graph))[0]
    pruned = jit(prune.prune_neuron)(graph, neuron, jnp.float32(0.25))
    fan_out = graph.weights.edge[:, :, neuron].copy()
    fan_out[:, neuron] = 0
    np.testing.assert_allclose(pruned.lost, np.abs(fan_out).sum(), rtol=1e-6)
    gain = np.asarray(pruned.graph.weights.bias) - graph.weights.bias
    gain[neuron] = 0
    np.testing.assert_allclose(gain, 0.25 * fan_out.sum(0), atol=1e-6)


@pytest.mark.parametrize("dale", MODES)
def test_new_zero_edges_keep_the_function_and_can_learn(dale):
    for rng, graph in samples(dale, 8):
        alive = np.flatnonzero(graph.structure.alive)
        destination = rng.choice(alive[graph.num_inputs :])
        args = (*ints(rng.choice(alive), destination, 2), jnp.float32(0))
        mutation = apply("add_edge", graph, *args)
        if not mutation.ok:
            continue
        if dale == "clamp" or graph.structure.sign[args[0]] == 0:
            assert mutation.lost == 0
            assert_kept(outcomes(rng, graph, mutation))
        else:
            raw = mutation.graph.weights.edge[2, destination, args[0]]
            np.testing.assert_allclose(raw, FAINTEST, rtol=1e-5)
            np.testing.assert_allclose(mutation.lost, np.log1p(np.exp(-5)), rtol=1e-5)


def test_add_neuron_with_silent_outgoing_edges_keeps_the_function():
    for rng, graph in samples("clamp", 8, kinds=list(reference.POINTS)):
        alive = np.flatnonzero(graph.structure.alive)
        sources, receivers = rng.choice(alive, 3), [graph.num_inputs]
        into = fan(sources, rng.normal(size=3), [1, 2, 3])
        kind = rng.integers(len(KINDS))
        args = (*ints(kind, 0), into, fan(receivers, [0.0], [0]))
        mutation = apply("add_neuron", graph, *args)
        assert mutation.ok
        assert_kept(outcomes(rng, graph, mutation))
        slot, new = mutation.neuron, mutation.graph
        assert new.structure.kind[slot] == kind and new.structure.region[slot] == 1
        assert new.weights.bias[slot] == 0.5
        assert new.structure.edge[0, graph.num_inputs, slot]


def test_a_fresh_gated_cell_remembers():
    """Its default gates answer to the input and keep some of it."""
    rng = np.random.default_rng(0)
    graph = reference.sample(rng, hidden=0, density=0.0)
    for kind in GATED:
        args = (fan([0], [1.0], [0]), fan([3], [1.0], [0]))
        mutation = apply("add_neuron", graph, *ints(kind, 0), *args)
        impulse = np.zeros((4, 3))
        impulse[0, 0] = 1.0
        outputs = [
            reference.run(mutation.graph, obs)[0][:, mutation.neuron]
            for obs in (0 * impulse, impulse)
        ]
        assert (np.abs(outputs[1] - outputs[0]) > 0.02).all()


# mechanics


@pytest.mark.parametrize("name", OPERATIONS)
def test_vmapped_over_topologies_equals_one_by_one(name):
    dale = MODES[list(OPERATIONS).index(name) % 2]
    rng = np.random.default_rng(2)
    graphs = [
        reference.sample(rng, dale=dale, signed=True, hidden=rng.integers(3, 11))
        for _ in range(16)
    ]
    stacked = jax.tree.map(lambda *x: np.stack(x), *graphs)
    draws = []
    for graph in graphs:
        drawn, args = "", ()
        while drawn != name:
            drawn, args = draw(rng, graph)
        draws.append(args)
    args = jax.tree.map(lambda *x: np.stack(x), *draws)
    together = jit(jax.vmap(OPERATIONS[name]))(stacked, *args)
    one_by_one = [
        apply(name, graph, *args) for graph, args in zip(graphs, draws, strict=True)
    ]
    one_by_one = jax.tree.map(lambda *x: np.stack(x), *one_by_one)
    assert together.ok.any()
    chex.assert_trees_all_close(together, one_by_one, rtol=1e-6, atol=1e-6)


def test_patch_on_a_batch_and_on_empty_parts():
    rng = np.random.default_rng(3)
    patch = Patch(*(jnp.array(x) for x in ([0, 2, 3], [0, 1, 0], [1.0, -1, 1], [1, 2])))
    carry = reference.State(*(rng.normal(size=(5, *x)) for x in ((2, 3), (2,), (2,))))
    history, h, c = apply_patch(carry, patch)
    np.testing.assert_allclose(history[..., 0], carry.history[..., 0], rtol=1e-6)
    np.testing.assert_allclose(history[:, 0, 1], -carry.history[:, 1, 2], rtol=1e-6)
    assert not history[:, 1, 1].any() and not history[..., 2].any()
    for new, old in ((h, carry.h), (c, carry.c)):
        np.testing.assert_allclose(new[:, 0], old[:, 1], rtol=1e-6)
        assert not new[:, 1].any()
    bare = reference.sample(rng, max_delay=0, max_cells=0)
    (_, destination, source), *_ = np.argwhere(bare.structure.edge)
    split = jit(mutate.split_edge)(bare, *ints(source, destination, 0))
    assert split.ok and not jit(mutate.add_neuron)(bare, *ints(GATED[0])).ok
    empty = reference.State(np.zeros((5, 0, SIZE)), np.zeros((5, 0)), np.zeros((5, 0)))
    chex.assert_trees_all_equal_shapes(apply_patch(empty, split.patch), empty)


def test_errors_say_what_to_do():
    graph = reference.sample(np.random.default_rng(0))
    with pytest.raises(ValueError, match=r"delay must be in \[0, 3\], got 4; grow_cap"):
        mutate.add_edge(graph, 0, 3, 4)
    with pytest.raises(ValueError, match=r"delay must be an integer, got 0\.5"):
        mutate.add_edge(graph, 0, 3, 0.5)
    with pytest.raises(ValueError, match=r"source must be in \[0, 15\], got 16"):
        prune.prune_edge(graph, 16, 3, 0)
    with pytest.raises(ValueError, match=r"neuron must be in \[0, 15\], got -1"):
        mutate.duplicate_neuron(graph, -1)
    with pytest.raises(ValueError, match="did you mean 'tanh'"):
        mutate.add_neuron(graph, "tan")
    with pytest.raises(ValueError, match=r"sign must be in \[-1, 1\], got 2"):
        mutate.add_neuron(graph, "tanh", 2)
