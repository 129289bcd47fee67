"""Adam for networks whose topology changes.

Moments of an edge say nothing about the edge that takes its place. An entry whose version
is not the one its moments belong to starts afresh, its own count included: with moments
of zero but the old count, its first steps would be three to six times too large. So
nobody has to find the optimizer's state to change a topology.
"""

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from optix import checks
from optix.neuroevo.graph.graph import DALE_MODES, Structure, Weights
from optix.types import PyTree


class TopologyAdamState(NamedTuple):
    """Every field but the last has the parameters' form."""

    mu: PyTree  # mean of the gradients
    nu: PyTree  # mean of their squares
    count: PyTree  # int32 gradients since the entry's last change
    seen: PyTree  # uint8 version that the moments belong to
    decays: jax.Array  # [2] float32 of the two means, for whoever reads them


def topology_adam(
    b1: float = 0.9, b2: float = 0.999, eps: float = 1e-8
) -> optax.GradientTransformationExtraArgs:
    """Return Adam (https://arxiv.org/abs/1412.6980) that forgets what has changed.

    Like `optax.scale_by_adam`, which it equals where nothing changes, it does not scale
    by a learning rate. Agents take it as `optimizer=`.

    `update` takes `version=`: a policy's structure, whose `Structure`s, in order, belong
    to the `Weights` among the parameters; or a tree of the parameters' form; or () for
    plain Adam.

    Args:
      b1: decay of the mean.
      b2: decay of the mean square.
      eps: added to the root of the mean square.

    Raises:
      ValueError: decays that are not in (0, 1), a negative eps; from `update`, a version
        of another form than the parameters.

    >>> adam = topology_adam()
    >>> params, grads = jnp.zeros(2), jnp.array([2.0, -0.5])
    >>> version = jnp.zeros(2, jnp.uint8)
    >>> updates, state = adam.update(grads, adam.init(params), params, version=version)
    >>> updates.round(3).tolist()
    [1.0, -1.0]
    >>> _, state = adam.update(grads, state, params, version=version.at[1].add(1))
    >>> state.count.tolist()
    [2, 1]
    """
    checks.within("b1", b1, 0.0, 1.0, open_ends=True)
    checks.within("b2", b2, 0.0, 1.0, open_ends=True)
    checks.within("eps", eps, 0.0, 1.0)

    def init(params):
        def zeros(dtype=None):
            return jax.tree.map(lambda x: jnp.zeros_like(x, dtype), params)

        counts, seen = zeros(jnp.int32), zeros(jnp.uint8)
        return TopologyAdamState(zeros(), zeros(), counts, seen, jnp.float32([b1, b2]))

    def update(updates, state, params=None, *, version: PyTree = (), **extra):
        del params, extra
        version = _versions(version, updates)
        changed = jax.tree.map(lambda new, old: new != old, version, state.seen)

        def kept(tree):
            return jax.tree.map(lambda x, new: jnp.where(new, 0, x), tree, changed)

        mu = optax.tree.update_moment(updates, kept(state.mu), b1, 1)
        nu = optax.tree.update_moment(updates, kept(state.nu), b2, 2)
        count = jax.tree.map(optax.safe_increment, kept(state.count))

        def scale(mean, square, count):
            mean = mean / seen_share(b1, count, mean.dtype)
            square = square / seen_share(b2, count, square.dtype)
            return mean / (jnp.sqrt(square) + eps)

        scaled = jax.tree.map(scale, mu, nu, count)
        return scaled, TopologyAdamState(mu, nu, count, version, state.decays)

    return optax.GradientTransformationExtraArgs(init, update)


def keep_sign(dale: str) -> optax.GradientTransformationExtraArgs:
    """Return the transformation that keeps weights from leaving their side.

    It follows on Adam. Under Dale's law by "clamp" a weight beyond 0 has no effect but
    has a gradient; where the step, taken downhill, would lead further out, it is left
    out. So a weight is never more than one step outside, and one step back is enough.
    Under "softplus" nothing can go wrong, and nothing is changed.

    `update` takes the parameters, and a policy's structure as `version=`.

    Args:
      dale: of the graph.

    Raises:
      ValueError: an unknown mode; from `update`, `Weights` without a `Structure`.
    """
    _check_mode(dale)

    def keep(weights, structure, update):
        sign = structure.sign.astype(weights.edge.dtype)  # [N] of the sources
        return update._replace(edge=not_outwards(weights.edge, sign, update.edge))

    def update(updates, state, params=None, *, version: PyTree = (), **extra):
        del extra
        if dale == "clamp":
            structures = iter(_structures(version, params))
            updates = jax.tree.map(
                lambda x, own: (
                    keep(x, next(structures), own) if _is_weights(x) else own
                ),
                params,
                updates,
                is_leaf=_is_weights,
            )
        return updates, state

    return optax.GradientTransformationExtraArgs(
        lambda params: optax.EmptyState(), update
    )


def not_outwards(weight: jax.Array, sign: Any, update: jax.Array) -> jax.Array:
    """Return the update, 0 where it would lead a weight further from its side of 0."""
    # signs of 0 allow everything: 0 > 0 is false
    outwards = (weight * sign <= 0) & (update * sign > 0)
    return jnp.where(outwards, 0.0, update)


def graph_optimizer(
    dale: str = "clamp", eps: float = 1e-5
) -> optax.GradientTransformationExtraArgs:
    """Return what graph agents use unless told otherwise.

    Args:
      dale: of the graph.
      eps: of Adam.

    Raises:
      ValueError: an unknown mode, a negative eps.

    >>> from functools import partial
    >>> optimizer = partial(graph_optimizer, "softplus")  # an agent's `optimizer=`
    """
    return optax.chain(topology_adam(eps=eps), keep_sign(dale))


def seen_share(
    decay: float | jax.Array, count: jax.Array, dtype=jnp.float32
) -> jax.Array:
    """Return `1 - decay ** count`, the weight of all gradients in a decaying mean.

    By `expm1`: a power for every entry would cost more than the rest of Adam.
    """
    if isinstance(decay, jax.Array):
        rate = jnp.log(decay)
    else:
        rate = math.log(np.asarray(decay, jnp.promote_types(dtype, jnp.float32)))
    return -jnp.expm1(count * rate).astype(dtype)


def _versions(version, params):
    """The version of every entry, in the form of the parameters."""
    if any(map(_is_structure, jax.tree.leaves(version, is_leaf=_is_structure))):
        structures = iter(_structures(version, params))
        version = jax.tree.map(
            lambda x: next(structures).version if _is_weights(x) else _unchanging(x),
            params,
            is_leaf=_is_weights,
        )
    elif not jax.tree.leaves(version):
        version = jax.tree.map(_unchanging, params)
    if _form(version) != _form(params):
        raise checks.OptionError(
            "version must be a policy's structure or of the parameters' form "
            f"{_form(params)}, got {_form(version)}; a network that never changes takes ()"
        )
    return version


def _unchanging(x):
    return jnp.zeros_like(x, jnp.uint8)


def _form(tree):
    return jax.tree.map(jnp.shape, tree)


def _structures(version, params) -> list[Structure]:
    """The structure of every `Weights` among the parameters, in order."""
    found = [
        x for x in jax.tree.leaves(version, is_leaf=_is_structure) if _is_structure(x)
    ]
    wanted = [x for x in jax.tree.leaves(params, is_leaf=_is_weights) if _is_weights(x)]
    if len(found) != len(wanted):
        raise checks.OptionError(
            f"version must hold a Structure for each of the {len(wanted)} Weights among "
            f"the parameters, got {len(found)}; pass version=policy.structure"
        )
    return found


def _is_structure(x):
    return isinstance(x, Structure)


def _is_weights(x):
    return isinstance(x, Weights)


def _check_mode(dale):
    if dale not in DALE_MODES:
        raise checks.OptionError(f"dale must be one of {DALE_MODES}, got {dale!r}")
