"""When the controller grows, prunes and merges, and that the policy goes on as it was."""

from functools import partial
from itertools import pairwise

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import jit

from optix.agents.dqn import dqn
from optix.agents.ppo import ppo
from optix.agents.recurrent_ppo import recurrent_ppo
from optix.learners.collect import Rollout
from optix.neuroevo.graph.build import GraphBuilder, layered
from optix.neuroevo.graph.forward import initial_carry
from optix.neuroevo.graph.graph import is_hidden, num_edges, num_neurons
from optix.neuroevo.graph.network import graph_actor_critic, graph_network
from optix.neuroevo.growth.activity import graph_of
from optix.neuroevo.growth.controller import CONDITIONS, topology_controller
from optix.neuroevo.topology.grow import OPERATORS, grow_neuron
from optix.types import Discrete, Report, Signals, Trajectory
from tests.neuroevo import reference

ROUNDS, ENVS = 4, 8
RNG = np.random.default_rng(0)
# flat, and hanging together around any smooth curve
FLAT = np.tile([1.0, 1.0, 1.0, -1.0, -1.0, -1.0], 45) + 0.1 * RNG.standard_normal(270)


def world(graph):
    """A policy of the graph and a window of observations it has acted on."""
    network = graph_actor_critic((graph.num_inputs,), Discrete(2), graph=graph)
    agent = recurrent_ppo if graph.recurrent else ppo
    policy = agent(network, (graph.num_inputs,), Discrete(2)).init(jax.random.key(0))
    obs = jnp.asarray(
        RNG.standard_normal((ROUNDS, ENVS, graph.num_inputs)), jnp.float32
    )
    zero = jnp.zeros((ROUNDS, ENVS))
    trajectory = Trajectory(obs, zero, zero, zero > 0, zero > 0, obs)
    rollout = Rollout((), obs[0], (), zero[0], zero[0], zero[0])
    return policy, rollout, Report(jnp.int32(32), jnp.bool_(True), {}, trajectory)


def in_use(policy):
    """The policy with gradients that all point somewhere."""
    adam, *rest = policy.opt_state[1]
    ones = jax.tree.map(jnp.ones_like, policy.params)
    counts = jax.tree.map(lambda x: jnp.full(x.shape, 100, jnp.int32), policy.params)
    share = [1 - b**100 for b in (0.9, 0.999)]
    adam = adam._replace(
        mu=jax.tree.map(lambda x: share[0] * x, ones),
        nu=jax.tree.map(lambda x: share[1] * x, ones),
        count=counts,
    )
    clip, _, scale = policy.opt_state
    return policy._replace(opt_state=(clip, (adam, *rest), scale))


def player(controller):
    """A compiled `(policy, rollout, report, scores, **hyperparams)` of many rounds.

    It returns the state and the policy at the end, and counts, parameters and structures
    of all rounds.
    """

    def play_round(carried, inputs, report, hyperparams):
        state, policy, rollout = carried
        number, score = inputs
        zero = jnp.int32(0)
        signals = Signals(
            score=score,
            round=number,
            phase=zero,
            verdict=zero,
            gain_limit=zero,
            autocorrelation=zero,
            improved=zero > 0,
            hyperparams=hyperparams,
            metrics={},
            key=jax.random.fold_in(jax.random.key(1), number),
        )
        state, policy, rollout, _ = controller.update(
            state, policy, rollout, report, signals
        )
        return (state, policy, rollout), state.counts

    @jit
    def run(policy, rollout, report, scores, hyperparams):
        start = controller.init(policy), policy, rollout
        numbers = jnp.arange(len(scores), dtype=jnp.int32)
        return jax.lax.scan(
            lambda carried, inputs: play_round(carried, inputs, report, hyperparams),
            start,
            (numbers, scores),
        )

    def play(policy, rollout, report, scores, **changes):
        hyperparams = {
            name: jnp.float32(changes.get(name.removeprefix("topology/"), value))
            for name, value in controller.hyperparams.items()
        }
        scores = jnp.float32(scores)
        (state, policy, _), counts = run(policy, rollout, report, scores, hyperparams)
        return state, policy, counts

    return play


def play(controller, *args, **changes):
    return player(controller)(*args, **changes)


def outputs(graph, policy, obs):
    """The definition's outputs from rest."""
    graph = reference.as_numpy(graph_of(graph, policy))
    now = [reference.step(graph, reference.rest(graph), row)[1] for row in obs]
    return reference.readout(graph, np.stack(now))


def test_all_signals_must_agree():
    graph = layered(3, (4,), 3, capacity=16)
    policy, rollout, report = world(graph)
    rising, noise = np.arange(270.0), RNG.standard_normal(270)
    cases = {
        "agree": (in_use(policy), FLAT, True),
        "still rising": (in_use(policy), FLAT + rising, False),
        "no structure": (in_use(policy), noise, False),
        "idle gradients": (policy, FLAT, False),
    }
    run = player(topology_controller(graph, prune=False))
    for name, (start, scores, grows) in cases.items():
        state, *_ = run(start, rollout, report, scores)
        assert (int(state.counts.grown) > 0) == grows, name


@pytest.mark.parametrize("off", CONDITIONS)
def test_each_signal_can_be_switched_off(off):
    graph = layered(3, (4,), 3, capacity=16)
    policy, rollout, report = world(graph)
    start = policy if off == "utilised" else in_use(policy)
    scores = {
        "flat": FLAT + np.arange(270.0),
        "structured": RNG.standard_normal(270),
        "utilised": FLAT,
    }[off]
    left = tuple(name for name in CONDITIONS if name != off)
    controller = topology_controller(graph, prune=False, conditions=left)
    state, *_ = play(controller, start, rollout, report, scores)
    assert int(state.counts.grown) > 0


def test_nothing_is_said_before_there_are_enough_scores_and_after_growth_they_count_anew():
    graph = layered(3, (4,), 3, capacity=32)
    policy, rollout, report = world(graph)
    controller = topology_controller(graph, prune=False, conditions=())
    _, _, counts = play(controller, policy, rollout, report, np.zeros(120), cooldown=10)
    rounds = np.flatnonzero(np.diff(np.asarray(counts.grown), prepend=0))
    assert rounds.tolist() == [39, 79, 119]


def test_chance_grows_at_its_rate_within_budget_and_cooldown():
    graph = layered(3, (), 3, capacity=64)
    policy, rollout, report = world(graph)
    controller = topology_controller(graph, trigger="random", prune=False)
    run = partial(player(controller), policy, rollout, report, np.zeros(400))
    grown = int(run(growth_rate=0.1, cooldown=0)[0].counts.grown)
    assert 24 <= grown <= 58  # 99.5 % of a binomial of 400 at .1
    _, _, counts = run(growth_rate=1.0, cooldown=30, max_growths=4)
    rounds = np.flatnonzero(np.diff(np.asarray(counts.grown), prepend=0))
    assert rounds.tolist() == [0, 30, 60, 90]


@pytest.mark.parametrize("operator", OPERATORS)
def test_growth_keeps_the_function(operator):
    graph = layered(3, (4, 4), 3, capacity=32, max_delay=1)
    policy, rollout, report = world(graph)
    carry = jax.tree.map(
        lambda x: jnp.broadcast_to(x, (ROUNDS, ENVS, *x.shape)), initial_carry(graph)
    )
    trajectory = report.trajectory._replace(extras={"carry": carry})
    report = report._replace(trajectory=trajectory)
    rollout = rollout._replace(carry=jax.tree.map(lambda x: x[0], carry))
    controller = topology_controller(
        graph, trigger="random", operator=operator, prune=False
    )
    state, after, _ = play(
        controller, policy, rollout, report, np.zeros(5), growth_rate=1.0, cooldown=0
    )
    assert int(state.counts.grown) == 5
    more = num_edges if operator == "edge" else num_neurons
    assert more(after.structure) == more(policy.structure) + 5
    obs = RNG.standard_normal((8, 3))
    np.testing.assert_allclose(
        outputs(graph, after, obs), outputs(graph, policy, obs), atol=1e-5
    )


def test_a_region_deep_in_a_brain_grows_at_every_try():
    builder = GraphBuilder()
    neurons = [builder.add_neuron("input")]
    neurons += [builder.add_neuron("output", region=1)]
    neurons += [builder.add_neuron(region=n // 6) for n in range(7)]
    order = [neurons[0], *neurons[2:], neurons[1]]
    for src, dst in pairwise(order):
        builder.add_edge(src, dst, 1.0)
    graph = builder.build(capacity=12)  # region 1 begins at level 7
    keys = jax.random.split(jax.random.key(0), 64)
    grow = jax.vmap(lambda key: grow_neuron(graph, 1, key, None))
    mutation = jit(grow)(keys)
    assert mutation.ok.all()
    new = mutation.graph.structure
    assert (new.region[np.arange(64), mutation.neuron] == 1).all()
    assert new.level[:, 1].max() == 9  # what is new stands before the output


def test_a_new_neuron_can_learn_at_once():
    graph = layered(3, (), 3, capacity=8)
    policy, rollout, report = world(graph)
    controller = topology_controller(graph, trigger="random", prune=False)
    _, after, _ = play(controller, policy, rollout, report, np.zeros(1), growth_rate=1)
    network = graph_actor_critic((3,), Discrete(2), graph=graph)

    def loss(params):
        obs = report.trajectory.obs
        return jnp.square(network.apply(params, after.structure, (), obs)[1][1]).mean()

    grads = jit(jax.grad(loss))(after.params)
    assert jnp.any(grads.edge[0, :, 6] != 0)


def test_weak_edges_go_after_patience_but_not_the_greatest():
    builder = GraphBuilder()
    inputs = [builder.add_neuron("input") for _ in range(2)]
    out = [builder.add_neuron("output") for _ in range(3)]
    hidden = builder.add_neuron()
    builder.add_edge(inputs[0], hidden, 1.0)
    builder.add_edge(inputs[1], hidden, 1e-5)  # weak, but all that input 1 has
    builder.add_edge(hidden, out[0], 1.0)
    builder.add_edge(inputs[0], out[0], 1e-5)  # weak
    for output in out[1:]:
        builder.add_edge(hidden, output, 1.0)
    graph = builder.build()
    policy, rollout, report = world(graph)
    controller = topology_controller(graph, trigger="never")
    _, after, counts = play(
        controller, policy, rollout, report, np.zeros(12), importance_limit=0.0
    )
    assert np.flatnonzero(np.diff(counts.pruned_edges, prepend=0)).tolist() == [9]
    gone = policy.structure.edge & ~after.structure.edge
    assert jnp.argwhere(gone).tolist() == [[0, out[0], inputs[0]]]


def idle_and_twins():
    """Hidden neurons: a busy one, its mirror, one that does nothing."""
    builder = GraphBuilder()
    source = builder.add_neuron("input")
    out = [builder.add_neuron("output") for _ in range(3)]
    busy, mirror, idle = (builder.add_neuron() for _ in range(3))
    builder.add_edge(source, busy, 1.0)
    builder.add_edge(source, mirror, -1.0)
    builder.add_edge(source, idle, 1e-4)
    for neuron, weight in ((busy, 1.0), (mirror, 0.5), (idle, 1e-3)):
        for output in out:
            builder.add_edge(neuron, output, weight)
    return builder.build(), (busy, mirror, idle)


def test_idle_neurons_go_and_equal_ones_merge_when_they_are_old_enough():
    graph, (busy, mirror, idle) = idle_and_twins()
    policy, rollout, report = world(graph)
    controller = topology_controller(graph, trigger="never", merge_every=8)
    _, after, counts = play(
        controller, policy, rollout, report, np.zeros(20), maturity=5, weight_limit=0
    )
    assert np.flatnonzero(np.diff(counts.pruned_neurons, prepend=0)).tolist() == [4]
    assert np.flatnonzero(np.diff(counts.merged, prepend=0)).tolist() == [7]
    left = np.flatnonzero(is_hidden(graph_of(graph, after))).tolist()
    assert left == [busy]
    obs = RNG.standard_normal((8, 1))
    np.testing.assert_allclose(
        outputs(graph, after, obs), outputs(graph, policy, obs), atol=1e-5
    )


def test_each_region_has_its_own_limit():
    builder = GraphBuilder()
    source = builder.add_neuron("input")
    out = [builder.add_neuron("output", region=1) for _ in range(3)]
    first = builder.add_neuron("hidden", region=0)
    second = builder.add_neuron("hidden", region=1)
    builder.add_edge(source, first, 1.0)
    builder.add_edge(first, second, 1.0)
    for output in out:
        builder.add_edge(second, output, 1.0)
    graph = builder.build(capacity=32)
    policy, rollout, report = world(graph)
    controller = topology_controller(
        graph, trigger="random", prune=False, max_neurons={0: 4, 1: 6}
    )
    _, after, _ = play(
        controller, policy, rollout, report, np.zeros(9), growth_rate=1, cooldown=0
    )
    alive, region = after.structure.alive, after.structure.region
    assert [int((alive & (region == r)).sum()) for r in (0, 1)] == [4, 6]
    # every new edge stays inside its region
    new = after.structure.edge & ~policy.structure.edge
    _, dst, src = np.nonzero(new)
    np.testing.assert_array_equal(region[dst], region[src])


def test_a_neuron_in_the_slot_of_one_that_went_in_the_same_round_is_new():
    builder = GraphBuilder()
    source = builder.add_neuron("input")
    out = [builder.add_neuron("output", region=1) for _ in range(3)]
    busy, idle = (builder.add_neuron("hidden") for _ in range(2))
    relay = builder.add_neuron("hidden", region=1)
    builder.add_edge(source, busy, 1.0)
    builder.add_edge(source, idle, 1e-4)
    builder.add_edge(busy, relay, 1.0)
    for output in out:
        builder.add_edge(relay, output, 1.0)
    graph = builder.build(capacity=16)
    policy, rollout, report = world(graph)
    # the region of the idle neuron has no room: the other one grows
    controller = topology_controller(graph, trigger="random", max_neurons=[2, 16])
    state, after, counts = play(
        controller, policy, rollout, report, np.zeros(1), maturity=0, growth_rate=1
    )
    assert (int(counts.pruned_neurons[0]), int(counts.grown[0])) == (1, 1)
    region, alive = after.structure.region, after.structure.alive
    grown = (
        alive & (region == 1) & ~(graph.structure.alive & (graph.structure.region == 1))
    )
    assert int(grown.sum()) == 1 and int(state.age[grown.argmax()]) == 0
    assert int(state.age[relay]) == 1


def test_a_target_network_takes_over_what_has_changed():
    graph = layered(3, (4,), 2, capacity=16)
    agent = dqn(graph_network(graph), (3,), Discrete(2))
    policy = agent.init(jax.random.key(0))
    old = jax.tree.map(lambda x: x + 1, policy.params)
    policy = policy._replace(extras=policy.extras._replace(target=old))
    _, rollout, report = world(layered(3, (), 3))
    controller = topology_controller(graph, trigger="random", prune=False)
    _, after, _ = play(controller, policy, rollout, report, np.zeros(1), growth_rate=1)
    changed = after.structure.version.edge != policy.structure.version.edge
    assert changed.any()
    expected = jnp.where(changed, after.params.edge, old.edge)
    np.testing.assert_array_equal(after.extras.target.edge, expected)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"conditions": ("flatt",)}, "did you mean 'flat'"),
        ({"operator": "neurons"}, "did you mean 'neuron'"),
        ({"trigger": "condition"}, "did you mean 'conditions'"),
        ({"min_scores": 5}, "min_scores must be 10 to 200, got 5"),
        ({"colddown": 3.0}, "did you mean 'cooldown'"),
        ({"max_neurons": {3: 8}}, "regions 0 to 0, got 3"),
        ({"max_neurons": 8.0}, "max_neurons must be an integer >= 1, got 8.0"),
        ({"max_neurons": (8, 8)}, "each of the 1 regions, got"),
        ({"operator": "duplicate"}, "needs a hidden neuron"),
        ({"kind": "gru"}, "all 0 slots for gated cells are taken"),
    ],
)
def test_wrong_options_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        topology_controller(layered(2, (), 3, capacity=8), **options)


def test_a_full_graph_is_refused_where_it_should_grow():
    with pytest.raises(ValueError, match="build it with a larger capacity"):
        topology_controller(layered(2, (4,), 3))
    topology_controller(layered(2, (4,), 3), trigger="never")
    cells = partial(layered, 2, (4,), 3, kind="gru", capacity=16)
    with pytest.raises(ValueError, match="a larger max_cells"):
        topology_controller(cells(), operator="duplicate")
    topology_controller(cells(max_cells=8), operator="duplicate")
    topology_controller(cells())  # grows point neurons


def test_an_optimizer_that_forgets_nothing_is_refused():
    graph = layered(2, (4,), 3, capacity=16)
    network = graph_actor_critic((2,), Discrete(2), graph=graph)
    network = network._replace(optimizer=None)
    policy = ppo(network, (2,), Discrete(2)).init(jax.random.key(0))
    with pytest.raises(ValueError, match="graph_optimizer"):
        topology_controller(graph).init(policy)
