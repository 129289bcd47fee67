"""One policy of the mean of several ones' parameters."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from optix import checks
from optix.population.ensemble import count
from optix.population.weighting import normalised, shares
from optix.trees import all_finite, select, take
from optix.types import Agent, Hyperparams, Policy, PyTree


class Comparison(NamedTuple):
    """How a policy and its challenger played on the same keys."""

    kept: jax.Array  # [] bool: the challenger is not worse
    best: jax.Array  # [] float32 mean score
    challenger: jax.Array  # [] float32 mean score
    standard_error: jax.Array  # [] float32 of the difference of the two


def top(
    scores: Any, top_k: int, score_band: float = 0.1, *, alive: Any = None
) -> jax.Array:
    """Return the weights [M] of the best within a band of scores: 1 each, 0 for others.

    Args:
      scores: [M]; those that are not finite are below all.
      top_k: how many at most.
      score_band: how far below the best one a score may be, in parts of its size.
        Where scores are about zero that says little: infinity takes the `top_k`.
      alive: [M] bool, of whom to choose; None for all.

    Raises:
      ValueError: no policies wanted, a negative band, scores that are not [M].

    >>> top(jnp.array([480.0, 500.0, 100.0, jnp.nan]), 3).tolist()
    [1.0, 1.0, 0.0, 0.0]
    """
    checks.positive_int("top_k", top_k)
    given = {"scores": scores, "alive": scores if alive is None else alive}
    for name, value in given.items():
        shape = np.shape(value)
        if len(shape) != 1 or shape != np.shape(scores):
            raise checks.OptionError(
                f"{name} must be [M], one for each policy, got a shape of {shape}"
            )
    band = checks.within_or_traced("score_band", score_band, 0.0, float("inf"))
    scores = jnp.asarray(scores, jnp.float32)
    known = jnp.isfinite(scores)
    if alive is not None:
        known &= jnp.asarray(alive, bool)
    scores = jnp.where(known, scores, -jnp.inf)
    best = scores.max()
    size = jnp.where(jnp.isinf(band), jnp.inf, band * jnp.abs(best))
    rank = jnp.argsort(jnp.argsort(-scores, stable=True))
    chosen = known & (rank < top_k) & (scores >= best - size)
    return chosen.astype(jnp.float32)


def average(
    agent: Agent, policies: Policy, weights: Any = None, *, newest: Any = -1
) -> Policy:
    """Return the policy of averaged parameters (https://arxiv.org/abs/1803.05407).

    Policies of one course of training, of which the mean often plays better than each;
    of runs that began apart it is none. Parameters and target parameters are averaged;
    the normaliser, counters and the rest are the newest policy's, and the optimizer
    begins afresh.

    Args:
      agent: of which they are policies.
      policies: [M, ...], see `optix.population.ensemble.stack`.
      weights: [M], as `top` chooses; None weighs all alike.
      newest: [] int, which of them has seen most; the last one. One without weight too.

    Raises:
      ValueError: policies of different networks, of another agent, or of an optimizer
        that keeps parameters of its own; weights of another number, negative, not finite
        or all zero (traced ones that are count nothing); a newest one that is not there.
    """
    checks.record("agent", agent, Agent, "make one by optix.make_agent(...)")
    members = count(policies)
    _must_be_of(agent, policies)
    weights = np.ones(members) if weights is None else weights
    if np.shape(weights) != (members,):
        raise checks.OptionError(
            f"weights must be one for each of the {members} policies, got a shape of "
            f"{np.shape(weights)}"
        )
    if not isinstance(weights, Tracer):
        normalised(weights, members)  # refuses what is no weight
    if not isinstance(newest, Tracer):
        newest = np.asarray(newest)
        if (
            newest.shape
            or newest.dtype.kind not in "iu"
            or newest not in range(-members, members)
        ):
            raise checks.OptionError(
                f"newest must be the number of one of the {members} policies, got "
                f"{newest}"
            )
    share = shares(jnp.asarray(weights), jnp.ones(members, bool))
    _must_be_alike(policies.structure, share)
    return _averaged(policies, share, newest)._replace(opt_state=_fresh(agent))


def keep_if_not_worse(
    score: Callable[[Policy, Hyperparams, jax.Array], jax.Array],
    best: Policy,
    challenger: Policy,
    hyperparams: Hyperparams,
    key: jax.Array,
    scores: int = 32,
) -> tuple[Policy, Comparison]:
    """Return the challenger if it plays no worse on the same keys, else the best.

    Args:
      score: `(policy, hyperparams, key) -> []`, as `Loop.score`.
      best: policy to beat.
      challenger: one of the same network.
      hyperparams: {name: []} that both act with.
      key: that no choice has seen; each score has a key of its own, equal for both.
      scores: calls of `score` for each.

    Raises:
      ValueError: fewer than two scores, or no function.
    """
    checks.positive_int("scores", scores, minimum=2)
    checks.function("score", score, "it takes (policy, hyperparams, key) and gives []")
    keys = jax.random.split(key, scores)
    # the optimizer does not play, and may be of another form
    pair = jax.tree.map(
        lambda *x: jnp.stack(x),
        best._replace(opt_state=()),
        challenger._replace(opt_state=()),
    )

    def play(policy):
        return jax.vmap(lambda key: score(policy, hyperparams, key))(keys)

    first, second = jax.lax.map(play, pair)
    gain = second - first
    sound = all_finite(challenger) & jnp.isfinite(second).all()
    kept = sound & ~(gain.mean() < 0)  # beside a best without a score too
    policy = select(kept, challenger, best)
    deviation = gain.std(ddof=1) / np.sqrt(scores)
    return policy, Comparison(kept, first.mean(), second.mean(), deviation)


@jax.jit
def _averaged(policies: Policy, share: jax.Array, newest: jax.Array) -> Policy:
    """Return the policy but for its optimizer."""
    recent = take(policies._replace(opt_state=()), newest)
    extras = recent.extras
    if hasattr(extras, "target"):
        extras = extras._replace(target=_mean(policies.extras.target, share))
    return recent._replace(params=_mean(policies.params, share), extras=extras)


def _mean(tree: PyTree, share: jax.Array) -> PyTree:
    """Return the mean over the first axis; who has no share may hold NaN."""

    def mean(x):
        weight = share.reshape(-1, *[1] * (x.ndim - 1))
        return jnp.where(weight > 0, weight * x, 0.0).sum(0).astype(x.dtype)

    return jax.tree.map(mean, tree)


def _must_be_of(agent: Agent, policies: Policy) -> None:
    """Refuse policies whose parameters are not those of the agent."""
    own = jax.eval_shape(agent.init, jax.random.key(0)).params
    ours, theirs = (
        {jax.tree_util.keystr(path): jnp.shape(x) for path, x in leaves}
        for leaves, _ in map(
            jax.tree_util.tree_flatten_with_path, (own, policies.params)
        )
    )
    for name in sorted(ours.keys() | theirs.keys()):
        its = theirs[name][1:] if name in theirs else None
        if its != ours.get(name):
            raise checks.OptionError(
                f"policies must be of the agent, whose {name} is {ours.get(name)}, got "
                f"{its}; take those that it has trained"
            )


def _must_be_alike(structure: PyTree, share: jax.Array) -> None:
    """Refuse networks whose fixed parts differ; traced ones can not be looked at."""
    if isinstance(share, Tracer):
        return
    members = np.flatnonzero(np.asarray(share) > 0)
    for path, leaf in jax.tree_util.tree_flatten_with_path(structure)[0]:
        if isinstance(leaf, Tracer):
            return
        rows = np.asarray(leaf)[members]
        if (rows != rows[:1]).any():
            raise checks.OptionError(
                "policies must be of one network to be averaged, but their structures "
                f"differ at {jax.tree_util.keystr(path) or 'the whole'}; an ensemble "
                "takes different ones"
            )


def _fresh(agent: Agent) -> PyTree:
    """Return the state of an optimizer that has seen nothing."""
    begin = jax.jit(lambda key: agent.init(key).opt_state)
    one, other = (begin(jax.random.key(seed)) for seed in (0, 1))
    leaves = jax.tree.leaves((one, other))
    if not any(isinstance(x, Tracer) for x in leaves) and any(
        (np.asarray(x) != np.asarray(y)).any()
        for x, y in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True)
    ):
        raise checks.OptionError(
            "the agent's optimizer must not keep parameters of its own to be begun "
            "afresh for an average, but its first state depends on them"
        )
    return one
