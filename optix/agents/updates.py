"""How parameters move: the update rule, one step of it, and targets that follow."""

from collections.abc import Callable
from typing import Any

import jax
import optax

from optix import checks
from optix.trees import next_turn, select
from optix.types import Hyperparams, Policy, PyTree
from optix.xla.barrier import barrier

Optimizer = Callable[[], optax.GradientTransformation] | None
FEW_PARAMETERS = 10_000  # about where both ways are as fast, on two CPU cores


def has_few(params: PyTree) -> bool:
    """Return whether an update takes its time for its number of operations."""
    return sum(x.size for x in jax.tree.leaves(params)) < FEW_PARAMETERS


def checked_optimizer(given: Optimizer, *usual: Optimizer) -> Optimizer:
    """Return what makes the transformation: the one given, else the networks' own.

    Raises:
      ValueError: something that makes no transformation.
    """
    if given is None:
        return next((own for own in usual if own is not None), None)
    rule = (
        "optimizer must be a function that makes a transformation, like "
        "optax.scale_by_adam, got "
    )
    if not callable(given):
        raise checks.OptionError(f"{rule}{given!r}; write lambda: ... around it")
    try:
        made = given()
    except TypeError as error:
        raise checks.OptionError(f"{rule}one that takes arguments: {error}") from error
    if not isinstance(made, optax.GradientTransformation):
        raise checks.OptionError(f"{rule}one that makes {made!r}")
    return given


def update_rule(
    optimizer: Optimizer,
    hyperparams: Hyperparams,
    adam_epsilon: float = 1e-8,
) -> optax.GradientTransformationExtraArgs:
    """Clip by the global norm, transform (by Adam unless told otherwise), scale."""
    rule = optax.chain(
        optax.clip_by_global_norm(hyperparams["max_grad_norm"]),
        optimizer() if optimizer else optax.scale_by_adam(eps=adam_epsilon),
        optax.scale(-1.0 * hyperparams["learning_rate"]),
    )
    arranged = rule if optimizer else _one_vector_where_small(rule)
    return optax.with_extra_args_support(arranged)


def _one_vector_where_small(
    rule: optax.GradientTransformation,
) -> optax.GradientTransformation:
    """Apply a rule to all leaves as one vector, where there are few numbers.

    A dozen small leaves are more operations to compile and to run than one vector; large
    ones cost more to copy into it than that saves.
    """
    vector = optax.flatten(rule)

    def chosen(tree):
        return vector if has_few(tree) else rule

    def init(params):
        return chosen(params).init(params)

    def update(updates, state, params=None):
        return chosen(updates).update(updates, state, params)

    return optax.GradientTransformation(init, update)


def apply_gradients(
    rule: optax.GradientTransformationExtraArgs,
    grads: PyTree,
    opt_state: PyTree,
    params: PyTree,
    version: PyTree,
) -> tuple[PyTree, PyTree]:
    """Return (params, opt_state) after one step of the rule."""
    # of 64 bit numbers somewhere, as noise, what is learned keeps its own type
    grads = jax.tree.map(lambda grad, x: grad.astype(x.dtype), grads, params)
    # flattened gradients that fuse into the backward pass make it several times slower
    grads = barrier(grads)
    updates, opt_state = rule.update(grads, opt_state, params, version=version)
    return optax.apply_updates(params, updates), opt_state


def update_target(
    target: PyTree, params: PyTree, rate: jax.Array, due: Any = True
) -> PyTree:
    """Move the target by a share `rate` towards the parameters, where an update is due."""
    return select(due, optax.incremental_update(params, target, rate), target)


def apply_update(
    policy: Policy,
    grads: PyTree,
    rule: optax.GradientTransformationExtraArgs,
    target_rate: jax.Array,
    target_period: int,
) -> Policy:
    """Return the policy after one update of all its parameters.

    The target moves by `target_rate` at every `target_period`-th update.
    """
    params, opt_state = apply_gradients(
        rule, grads, policy.opt_state, policy.params, policy.structure
    )
    extras = policy.extras
    updates = next_turn(extras.updates, target_period)
    target = update_target(
        extras.target, params, target_rate, updates % target_period == 0
    )
    extras = extras._replace(target=target, updates=updates)
    return Policy(params, policy.structure, opt_state, extras)
