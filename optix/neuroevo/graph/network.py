"""A graph as a `Network`: acting and learning run the same function."""

import math
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp

from optix import checks
from optix.neuroevo.graph import forward
from optix.neuroevo.graph.build import draw, layered
from optix.neuroevo.graph.graph import NeuronGraph, Structure
from optix.neuroevo.graph.optimizer import graph_optimizer
from optix.neuroevo.graph.static import StaticGraph, static_weights, thawed
from optix.neuroevo.graph.static_network import static_network
from optix.types import ActionSpace, Box, Network, Numbered, Policy, PyTree


def graph_of(graph: NeuronGraph | StaticGraph, policy: Policy) -> NeuronGraph:
    """Return the graph that a policy is now; `graph` is the one it began with.

    Of a static graph it is the one that was frozen, with the weights of now: it can grow
    again.

    Raises:
      ValueError: the policy's network is no graph, or one with other room or outputs.
    """
    if isinstance(graph, StaticGraph):
        own = jax.tree.map(jnp.shape, policy.params)
        given = jax.eval_shape(lambda w: static_weights(graph, w), graph.graph.weights)
        if own != jax.tree.map(jnp.shape, given):
            raise checks.OptionError(
                "a policy must be of the static graph it is asked for, got parameters of "
                f"other shapes, {own}; give the one that network= was"
            )
        return thawed(graph, policy.params)
    own, given = _sizes(policy.structure), _sizes(graph.structure)
    if own != given:
        raise checks.OptionError(
            "a transform must be given the graph that the policy began with, got one of "
            f"(delays, neurons, cells, outputs) {given} for a policy of {own}; give the "
            "loop the same graph as network="
        )
    return graph.replace(weights=policy.params, structure=policy.structure)


def _sizes(structure):
    """Delays, neurons, cells and outputs there is room for, None of another network."""
    if not isinstance(structure, Structure):
        return None
    sizes = structure.edge.shape[-3:-1]
    return *sizes, structure.cell.shape[-1], structure.output.shape[-1]


def graph_network(
    graph: NeuronGraph | StaticGraph,
    read: Callable[[jax.Array], PyTree] = lambda outputs: outputs,
    *,
    keep_weights: bool = True,
) -> Network:
    """Return the network of a graph: parameters are its weights, structure the rest.

    Args:
      graph: the graph; without room for delays and gated cells it is feed-forward. One
        that `freeze` made static runs as fast as an MLP and changes no more.
      read: `(outputs [..., O]) -> out`, what the network gives.
      keep_weights: begin with the graph's own weights; else `init` draws others, which
        runs of several seeds want.

    Raises:
      ValueError: something else than a graph, or one whose weights are all 0 and kept:
        it would never learn.

    >>> network = graph_network(layered(4, (8,), 2))
    >>> params, structure = network.init(jax.random.key(0))
    >>> jax.jit(network.apply)(params, structure, (), jnp.zeros((5, 4)))[1].shape
    (5, 2)
    """
    checks.boolean("keep_weights", keep_weights)
    source = graph.graph if isinstance(graph, StaticGraph) else graph
    checks.record("graph", source, NeuronGraph, "build one by GraphBuilder or layered")
    if not callable(read):
        raise checks.OptionError(
            f"read must be a function of the outputs, got {read!r}"
        )
    if keep_weights and not bool(jnp.any(source.weights.edge)):
        raise checks.OptionError(
            "a graph must have weights other than 0 to learn, got none; draw(graph, key) "
            "gives it some, or keep_weights=False"
        )

    if isinstance(graph, StaticGraph):
        return static_network(graph, read, keep_weights=keep_weights)

    def init(key):
        weights = graph.weights if keep_weights else draw(graph, key).weights
        return weights, graph.structure

    def initial_carry(batch):
        if not graph.recurrent:
            return ()
        rest = forward.initial_carry(graph)
        return jax.tree.map(lambda x: jnp.zeros((batch, *x.shape), x.dtype), rest)

    def apply(params, structure, carry, obs):
        carry, outputs = _step(own(params, structure), carry, obs)
        return carry, read(forward.outputs_of(graph, outputs))

    def sequence(params, structure, carry, obs, ended):
        carry, outputs = trace(own(params, structure), carry, obs, ended)
        return carry, read(forward.outputs_of(graph, outputs))

    def own(params, structure):
        return graph_of(graph, Policy(params, structure))

    return Network(
        init, initial_carry, apply, sequence, lambda: graph_optimizer(graph.dale)
    )


def trace(
    graph: NeuronGraph, carry: PyTree, obs: jax.Array, ended: jax.Array
) -> tuple[PyTree, jax.Array]:
    """Run a graph over a window and return the outputs of all its neurons.

    Args:
      graph: the graph.
      carry: [B, ...] before the first step, () of a graph without memory.
      obs: [T, B, I].
      ended: [T, B] bool: the step was the last of its episode.

    Returns:
      The carry, and the outputs [T, B, N].
    """
    if not graph.recurrent:
        return _step(graph, (), obs)
    run = jax.vmap(forward.sequence, in_axes=(None, 0, 1, 1), out_axes=(0, 1))
    return run(graph, carry, obs, ended)


def _step(graph, carry, obs):
    """One step on obs [..., I]; the carry has the same leading axes."""
    if obs.shape[-1] != graph.num_inputs:
        raise checks.OptionError(
            f"observations must have the graph's {graph.num_inputs} numbers, got shape "
            f"{obs.shape}"
        )
    batch, ready = obs.shape[:-1], forward.circuit(graph)

    def rows(x):
        return x.reshape(math.prod(batch), *x.shape[len(batch) :])

    over_rows = jax.vmap(
        forward.step, in_axes=(None, 0 if graph.recurrent else None, 0)
    )
    start = (
        jax.tree.map(rows, carry) if graph.recurrent else forward.initial_carry(graph)
    )
    after, outputs = over_rows(ready, start, rows(obs))
    after, outputs = jax.tree.map(
        lambda x: x.reshape(*batch, *x.shape[1:]), (after, outputs)
    )
    return (after if graph.recurrent else ()), outputs


def num_heads(action_space: ActionSpace) -> int:
    """Return the outputs that a graph needs as an actor-critic; the last is the value.

    Logits of numbered actions; mean and log scale of each of a box. A log scale that
    nothing leads to is a plain parameter, its bias.
    """
    if isinstance(action_space, Numbered):
        return sum(action_space.sizes) + 1
    return 2 * action_space.shape[0] + 1


def graph_actor_critic(
    observation_shape: Sequence[int],
    action_space: ActionSpace,
    *,
    graph: NeuronGraph | StaticGraph | None = None,
    hidden: Sequence[int] = (8,),
    kind: str = "tanh",
    recurrent_delay: int | None = None,
    capacity: int | None = None,
    max_delay: int | None = None,
    max_cells: int | None = None,
    keep_weights: bool | None = None,
) -> Network:
    """Return a graph as the actor-critic of `ppo` and `recurrent_ppo`.

    Args:
      observation_shape: of one observation, a vector.
      action_space: `Discrete`, `MultiDiscrete` or a one-dimensional `Box`.
      graph: static or not, with an input for each number of an observation and
        `num_heads` outputs; None makes layers by the options that follow, see `layered`
        of `build`.
      hidden: neurons of each hidden layer.
      kind: of the hidden neurons.
      recurrent_delay: of each hidden layer's edges to itself.
      capacity: slots for neurons.
      max_delay: the longest delay to make room for.
      max_cells: slots for gated cells.
      keep_weights: begin with the graph's own weights; None keeps those of a graph that
        is given, and draws them of one that is not.

    Raises:
      ValueError: a graph of other sizes, observations that are no vector.

    >>> from optix.types import Discrete
    >>> network = graph_actor_critic((4,), Discrete(2), hidden=(8,))
    >>> params, structure = network.init(jax.random.key(0))
    >>> run = jax.jit(network.apply)
    >>> logits, value = run(params, structure, (), jnp.zeros((5, 4)))[1]
    >>> logits.shape, value.shape
    ((5, 2), (5,))
    """
    observation_shape = checks.shape("observation_shape", observation_shape)
    if not isinstance(action_space, ActionSpace):
        raise checks.OptionError(
            f"action_space must be Discrete, MultiDiscrete or Box, got {action_space!r}"
        )
    if keep_weights is not None:
        checks.boolean("keep_weights", keep_weights)
    if len(observation_shape) != 1:
        raise checks.OptionError(
            f"a graph takes vectors, got observations of shape {observation_shape}; "
            "flatten them in the environment"
        )
    heads = num_heads(action_space)
    given = graph is not None
    if graph is None:
        graph = layered(
            observation_shape[0],
            hidden,
            heads,
            kind=kind,
            recurrent_delay=recurrent_delay,
            capacity=capacity,
            max_delay=max_delay,
            max_cells=max_cells,
        )
    if not isinstance(graph, StaticGraph):
        remedy = "build one by GraphBuilder or layered"
        checks.record("graph", graph, NeuronGraph, remedy)
    sizes = graph.num_inputs, graph.num_outputs
    if sizes != (observation_shape[0], heads):
        raise checks.OptionError(
            f"the graph must have {observation_shape[0]} inputs and {heads} outputs for "
            f"these spaces (the last output is the value), got {sizes[0]} and {sizes[1]}"
        )

    def read(outputs):
        parameters, value = outputs[..., :-1], outputs[..., -1]
        if isinstance(action_space, Box):
            mean, log_scale = jnp.split(parameters, 2, -1)
            parameters = mean, log_scale
        return parameters, value

    return graph_network(
        graph, read, keep_weights=given if keep_weights is None else keep_weights
    )
