"""Policies of one agent that act as one."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from optix import checks
from optix.math.masks import parts
from optix.population.duties import Policies
from optix.population.weighting import normalised, shares
from optix.trees import all_finite
from optix.types import (
    ActionSpace,
    Agent,
    Hyperparams,
    MultiDiscrete,
    Numbered,
    Policy,
    PyTree,
)

_LEAST = 1e-30  # a probability below is none; its logarithm is finite


class EnsembleExtras(NamedTuple):
    """What the policy of an ensemble carries besides the members' parameters."""

    extras: PyTree  # [M, ...] those of each member
    share: jax.Array  # [M] float32, their sum is 1; 0 of who counts nothing
    hyperparams: Hyperparams  # {name: [M] float32} that each acts with


def ensemble(agent: Agent, action_space: ActionSpace, members: int) -> Agent:
    """Return the agent that acts by the weighted mean of several policies of `agent`.

    Of discrete actions the mean is that of their probabilities: the most probable is
    played, or one is drawn when exploring. Of several numbers that is done for each; when
    exploring they are drawn together, as one member would. An agent whose probabilities
    are not known, as that of action values, gives its whole share to the action that it
    would take. Of a box it is the mean of the members' actions; exploring, of those that
    they draw.

    It is evaluated, saved and exported as any other; what a member remembers is its
    own. It does not learn: what one member would have done is not what was done. Its
    policies are made by `join`, the members' hyperparameters with them; those that `act`
    is given are not looked at.

    Args:
      agent: of which the members are policies.
      action_space: that it acts in.
      members: how many.

    Raises:
      ValueError: no members, or something else than an agent and an action space.

    >>> import optix
    >>> from optix.types import Discrete
    >>> agent = optix.make_agent("CartPole-v1", hidden=(4,))
    >>> both = ensemble(agent, Discrete(2), members=2)
    >>> policy = both.init(jax.random.key(0))
    >>> policy.extras.share.tolist()
    [0.5, 0.5]
    >>> int(both.act(policy, (), jnp.ones((1, 4)), {}, jax.random.key(0), False)[1][0])
    0
    """
    checks.record("agent", agent, Agent, "make one by optix.make_agent(...)")
    if not isinstance(action_space, ActionSpace):
        raise checks.OptionError(
            f"action_space must be a Discrete, MultiDiscrete or Box, got "
            f"{action_space!r}; take it from the environment"
        )
    checks.positive_int("members", members)
    # of the parts of an action, none of a box
    sizes = action_space.sizes if isinstance(action_space, Numbered) else ()
    several = isinstance(action_space, MultiDiscrete)
    speak: Any = agent.outputs if agent.output_names == ("logits",) else None

    def init(key):
        # one after another: some initialisers deadlock under vmap
        return join(agent, jax.lax.map(agent.init, jax.random.split(key, members)))

    def initial_carry(batch):
        return jax.tree.map(  # rows first, as of any carry
            lambda x: jnp.broadcast_to(x[:, None], (x.shape[0], members, *x.shape[1:])),
            agent.initial_carry(batch),
        )

    def each(function, policy, carry, *more):
        """Call `function(policy, carry, *more)` for each member; carries are [B, M]."""
        own = Policy(policy.params, policy.structure, (), policy.extras.extras)
        axes = (0, 1, *[0] * len(more))
        return jax.vmap(function, axes, (1, 0))(own, carry, *more)

    def actions(policy, carry, obs, key, explore):
        def one(policy, carry, hyperparams, key):
            return agent.act(policy, carry, obs, hyperparams, key, explore)[:2]

        keys = jax.random.split(key, members)
        return each(one, policy, carry, policy.extras.hyperparams, keys)

    def probabilities(policy, carry, obs):
        """The mean probabilities [B, n] of numbered actions."""
        if speak is not None:

            def one(policy, carry):
                after, logits = speak(policy, carry, obs)
                each_part = map(jax.nn.softmax, parts(logits, sizes))
                return after, jnp.concatenate(list(each_part), -1)

            after, each_ones = each(one, policy, carry)
        else:
            key = jax.random.key(0)  # nothing is drawn
            after, chosen = actions(policy, carry, obs, key, False)
            chosen = chosen if several else chosen[..., None]
            each_ones = jnp.concatenate(
                [jax.nn.one_hot(chosen[..., i], n) for i, n in enumerate(sizes)],
                -1,
            )
        return after, _mean(policy.extras.share, each_ones)

    def outputs(policy, carry, obs):
        """The logarithms of the mean probabilities, or the mean action."""
        if sizes:
            after, mean = probabilities(policy, carry, obs)
            return after, jnp.log(jnp.maximum(mean, _LEAST))
        after, each_ones = actions(policy, carry, obs, jax.random.key(0), False)
        return after, _mean(policy.extras.share, each_ones)

    def most_probable(logits):
        chosen = [jnp.argmax(part, -1) for part in parts(logits, sizes)]
        return jnp.stack(chosen, -1) if several else chosen[0]

    def act(policy, carry, obs, hyperparams, key, explore):
        del hyperparams
        if not explore:
            after, out = outputs(policy, carry, obs)
            return after, out if not sizes else most_probable(out), {}
        draw_key, member_key = jax.random.split(key)
        after, drawn = actions(policy, carry, obs, draw_key, True)
        share = policy.extras.share
        if not sizes:
            return after, _mean(share, drawn), {}
        # what a member drew, each by its share: a draw from the mean probabilities
        rows = drawn.shape[1]
        member = jax.random.categorical(member_key, jnp.log(share), shape=(rows,))
        return after, drawn[member, jnp.arange(rows)], {}

    def learn(policy, batch, hyperparams, key):
        raise NotImplementedError(
            "an ensemble plays and does not learn; train its members, and join them"
        )

    return Agent(
        init,
        initial_carry,
        act,
        learn,
        dict(agent.hyperparams),
        outputs=outputs,
        axis_name=agent.axis_name,
        output_names=("unit_action",) if not sizes else ("logits",),
    )


def join(
    agent: Agent,
    policies: Policy,
    weights: Any = None,
    *,
    alive: Any = None,
    hyperparams: Mapping[str, Any] | None = None,
) -> Policy:
    """Return the policy of an `ensemble`.

    A member whose parameters are not finite counts nothing.

    Args:
      agent: of which they are policies.
      policies: [M, ...], see `stack`.
      weights: [M], not negative; None weighs all alike. They are normalised.
      alive: [M] bool, who takes part; None for all.
      hyperparams: {name: [M]} that they act with; for those left out the agent's.

    Raises:
      ValueError: weights of another number, negative or all zero (traced ones that are
        count nothing), an unknown hyperparameter.
    """
    checks.record("agent", agent, Agent, "make one by optix.make_agent(...)")
    members = count(policies)
    traced = any(isinstance(x, Tracer) for x in (weights, alive))
    weights = np.ones(members) if weights is None else weights
    alive = np.ones(members, bool) if alive is None else alive
    for name, value in (("weights", weights), ("alive", alive)):
        if np.shape(value) != (members,):
            raise checks.OptionError(
                f"{name} must be one for each of the {members} policies, got a shape "
                f"of {np.shape(value)}"
            )
    if not traced:
        normalised(weights, members)  # refuses what is no weight
        if not np.any(np.asarray(weights) * np.asarray(alive, bool)):
            raise checks.OptionError(
                f"weights must not all be zero of those alive, got {weights} and alive "
                f"{alive}"
            )
    checks.known_names("hyperparameter", hyperparams or {}, agent.hyperparams)
    floats = {**agent.hyperparams, **(hyperparams or {})}
    sound = _all_finite((policies.params, policies.extras))
    return Policy(
        policies.params,
        policies.structure,
        (),
        EnsembleExtras(
            policies.extras,
            shares(jnp.asarray(weights), jnp.asarray(alive) & sound),
            {
                name: jnp.broadcast_to(jnp.asarray(value, jnp.float32), (members,))
                for name, value in floats.items()
            },
        ),
    )


_all_finite = jax.jit(jax.vmap(all_finite))


def acting(agent: Agent, several: Policies) -> Policy:
    """Return the policy of an `ensemble` of a population's policies.

    Args:
      agent: of the population's loop.
      several: as `optix.population.policies(state)` gives them; of hyperparameters that
        are not the agent's no policy acts by them.

    Raises:
      ValueError: as `join`.
    """
    hyperparams = {
        name: value
        for name, value in several.hyperparams.items()
        if name in agent.hyperparams
    }
    return join(
        agent,
        several.policies,
        several.weights,
        alive=several.alive,
        hyperparams=hyperparams,
    )


def stack(policies: Sequence[Policy]) -> Policy:
    """Return policies of one network as one of leaves [M, ...].

    Raises:
      ValueError: none, or policies of different networks.
    """
    policies = list(policies)
    if not policies:
        raise checks.OptionError("policies must be at least one, got none")
    for policy in policies:
        checks.record("each of policies", policy, Policy, "take it from a state")
    first = _shapes(policies[0])
    for number, policy in enumerate(policies[1:], 1):
        if jax.tree.structure(policy) != jax.tree.structure(policies[0]):
            raise checks.OptionError(
                f"policies must be of one network, but policy {number} has other parts "
                "than policy 0; take those of one agent"
            )
        for (path, shape), (_, its) in zip(first, _shapes(policy), strict=True):
            if shape != its:
                raise checks.OptionError(
                    f"policies must be of one network, but {path} is {its} in policy "
                    f"{number} and {shape} in policy 0; take those of one agent"
                )
    return _stacked(policies)


@jax.jit
def _stacked(policies):
    return jax.tree.map(lambda *x: jnp.stack(x), *policies)


def _shapes(policy: Policy) -> list[tuple[str, Any]]:
    leaves, _ = jax.tree_util.tree_flatten_with_path(policy)
    return [
        (jax.tree_util.keystr(path), f"{jnp.result_type(x)}{list(jnp.shape(x))}")
        for path, x in leaves
    ]


def count(policies: Policy) -> int:
    """Return M of policies [M, ...], or raise ValueError."""
    checks.record("policies", policies, Policy, "stack(...) makes one of several")
    sizes = {jnp.shape(x)[:1] for x in jax.tree.leaves(policies)}
    if len(sizes) != 1 or () in sizes:
        raise checks.OptionError(
            "policies must have one leading axis for all members, got leaves of "
            f"{sorted(sizes)}; stack(...) makes it of several policies"
        )
    return sizes.pop()[0]


def _mean(share: jax.Array, each: jax.Array) -> jax.Array:
    """Return the mean [...] of [M, ...]; who has no share may say anything, NaN too."""
    weight = share.reshape(-1, *[1] * (each.ndim - 1))
    return jnp.where(weight > 0, weight * each, 0.0).sum(0).astype(each.dtype)
