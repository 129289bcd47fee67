"""IMPALA: actor-critic with V-trace (https://arxiv.org/abs/1802.01561).

The policy that acted may be an older one than the policy that learns: an actor may lag
behind, and within a window each update moves the policy that the next one learns with.
V-trace corrects for the difference by truncated ratios of probabilities. The values are
those of the policy that learns, found anew in every update.

A window is learned from in parts of whole sequences, of networks with a carry too: a
sequence starts from the carry that acting had there, as in `optix.agents.recurrent_ppo`.
How the policy acts, and its normalisers, are those of `optix.agents.ppo`.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from optix import checks
from optix.agents.distributions import usual
from optix.agents.fit import check_batch
from optix.agents.masking import masked_policy
from optix.agents.ppo import ppo
from optix.agents.reading import Reading, stretches
from optix.agents.updates import checked_optimizer, update_rule
from optix.agents.view import normalizers
from optix.agents.window import kept, learn_in_epochs
from optix.math.returns import VTrace, following_values, vtrace
from optix.networks.sequence import run_sequence
from optix.trees import all_finite, next_turn, select
from optix.types import (
    ActionSpace,
    Agent,
    Hyperparams,
    Learned,
    Network,
    PyTree,
    Trajectory,
)

HYPERPARAMS = {  # name: (default, low, high), the range in which it makes sense
    "learning_rate": (1e-3, 0.0, 1.0),
    "discount": (0.99, 0.0, 1.0),
    "trace_lambda": (0.95, 0.0, 1.0),
    "rho_clip": (1.0, 0.0, 1e9),
    "trace_clip": (1.0, 0.0, 1e9),
    "entropy_coefficient": (0.01, 0.0, 100.0),
    "value_coefficient": (0.5, 0.0, 100.0),
    "max_grad_norm": (0.5, 0.0, 1e9),
}
TUNED = {  # what a tuner named without bounds may change, and how far
    "learning_rate": (1e-5, 1e-2),
    "entropy_coefficient": (1e-4, 0.1),
}


class Sequences(NamedTuple):
    """`N` stretches of a window, each of `S` steps; time major where they are learned."""

    obs: PyTree  # [N, S, ...] float32, normalised; with a mask where there is one
    next_obs: PyTree  # [N, S, ...] like obs
    action: jax.Array  # [N, S, ...]
    reward: jax.Array  # [N, S] float32, scaled
    terminated: jax.Array  # [N, S] bool
    truncated: jax.Array  # [N, S] bool
    log_prob: jax.Array  # [N, S] float32 of the policy that acted
    carry: PyTree  # [N, S, ...] before each step


def loss(
    outputs: tuple[Any, jax.Array],
    log_prob: jax.Array,
    entropy: Any,
    corrected: VTrace,
    hyperparams: Hyperparams,
) -> tuple[jax.Array, dict[str, jax.Array]]:
    """Policy gradient, value error and entropy bonus, with what V-trace corrected.

    Args:
      outputs: (log_prob [...] of the actions by the policy that learns, value [...]).
      log_prob: [...] by the policy that acted.
      entropy: [...] of the policy that learns.
      corrected: [...] targets and advantages; no gradient flows through them.
      hyperparams: value_coefficient, entropy_coefficient.

    Returns:
      [] loss, and {name: []} what a person may want to know.
    """
    new_log_prob, value = outputs
    corrected = jax.lax.stop_gradient(corrected)
    policy_loss = -(corrected.advantage * new_log_prob).mean()
    value_loss = 0.5 * jnp.square(value - corrected.target).mean()
    total = (
        policy_loss
        + hyperparams["value_coefficient"] * value_loss
        - hyperparams["entropy_coefficient"] * entropy.mean()
    )
    log_ratio = new_log_prob - log_prob
    ratio = jnp.exp(log_ratio)
    info = {
        "policy_loss": policy_loss,
        "value_loss": value_loss,
        "entropy": entropy.mean(),
        # the low-variance estimator of http://joschu.net/blog/kl-approx.html
        "kl": jnp.mean(ratio - 1 - log_ratio),
        "clip_fraction": jnp.mean(ratio > hyperparams["rho_clip"]),
    }
    return total, info


def impala(
    network: Network,
    observation_shape: tuple[int, ...],
    action_space: ActionSpace,
    *,
    sequence_length: int = 16,
    num_epochs: int = 2,
    num_minibatches: int = 16,
    normalize_observations: bool = True,
    normalize_rewards: bool = True,
    distribution: Callable | None = None,
    optimizer: Callable[[], optax.GradientTransformation] | None = None,
    axis_name: str | None = None,
    **hyperparams: float,
) -> Agent:
    """Return an IMPALA agent of a network with or without a carry.

    Args:
      network: `apply` gives (distribution parameters, value).
      observation_shape: of one observation.
      action_space: what the environment takes: one number, several or a box.
      sequence_length: steps along which returns are corrected and gradients flow back;
        it must divide a window's steps. The value of what follows stands for the rest.
      num_epochs: passes over a window; of the second the policy is another one, which the
        correction is for.
      num_minibatches: parts of a pass, each one update; they must divide a window's
        sequences. 1 learns from a window at once.
      normalize_observations: by running moments.
      normalize_rewards: by the running deviation of the discounted return.
      distribution: distribution parameters -> distrax-like distribution; None takes
        the `usual` one of the action space, see `optix.agents.distributions`.
      optimizer: makes the transformation of clipped gradients that the learning rate
        scales; None is Adam with epsilon 1e-5. It is given `version=structure`.
      axis_name: devices whose samples form one batch.
      **hyperparams: defaults of the traced floats in `HYPERPARAMS`; `rho_clip` limits
        the ratios that decide whose values are learned, `trace_clip` those along a trace.

    Raises:
      ValueError: sizes below one, floats out of range, unknown names.

    >>> from optix.networks.mlp import actor_critic
    >>> from optix.types import Discrete
    >>> network = actor_critic((4,), Discrete(2))
    >>> agent = impala(network, (4,), Discrete(2), rho_clip=2.0)
    >>> agent.hyperparams["rho_clip"], agent.hyperparams["trace_clip"]
    (2.0, 1.0)
    """
    defaults = checks.floats("hyperparameter of impala", hyperparams, HYPERPARAMS)
    count, cut = stretches(sequence_length)
    unit = "sequences of a window (num_steps / sequence_length * num_envs)"
    actor = ppo(
        network,
        observation_shape,
        action_space,
        num_epochs=num_epochs,
        num_minibatches=num_minibatches,
        normalize_observations=normalize_observations,
        normalize_rewards=normalize_rewards,
        distribution=distribution,
        optimizer=optimizer,
        axis_name=axis_name,
        reading=Reading("impala", count, unit, *[_not_read] * 4),
    )
    network = masked_policy(network, action_space)
    optimizer = checked_optimizer(optimizer, network.optimizer)
    normal = normalizers(
        observation_shape, normalize_observations, normalize_rewards, axis_name
    )
    actions_of = distribution or usual(action_space)[0]

    def corrected(params, structure, outputs, part, hyperparams):
        """V-trace [S, N] of the values and the policy that learn."""
        log_prob, value = outputs

        def value_after(steps):
            """The value [N] of what followed a step [N] of each sequence."""
            carry, obs, next_obs = jax.tree.map(
                lambda x: x[steps, jnp.arange(steps.size)],
                (part.carry, part.obs, part.next_obs),
            )
            if jax.tree.leaves(carry):
                carry, _ = network.apply(params, structure, carry, obs)
            return network.apply(params, structure, carry, next_obs)[1][1]

        following = following_values(
            value, part.truncated & ~part.terminated, value_after
        )
        floats = [
            hyperparams[name]
            for name in ("discount", "trace_lambda", "rho_clip", "trace_clip")
        ]
        return jax.vmap(vtrace, (*[1] * 6, *[None] * 4), 1)(
            part.reward,
            value,
            following,
            part.terminated,
            part.truncated,
            jnp.exp(log_prob - part.log_prob),
            *floats,
        )

    def objective(params, structure, part, hyperparams):
        ended = part.terminated | part.truncated
        first = jax.tree.map(lambda x: x[0], part.carry)
        _, (parameters, value) = run_sequence(
            network, params, structure, first, part.obs, ended
        )
        actions = actions_of(parameters)
        outputs = actions.log_prob(part.action), value
        # nothing in here is differentiated, the loop that asks for values least of all
        still = jax.lax.stop_gradient((params, structure, outputs))
        target = corrected(*still, part, hyperparams)
        return loss(outputs, part.log_prob, actions.entropy(), target, hyperparams)

    def learn(policy, batch, hyperparams, key):
        """Learn from one `Trajectory` [T, B]."""
        check_batch(batch, Trajectory, "on_policy")
        actor.check_window(*batch.reward.shape)
        extras = normal.observe(policy.extras, batch)
        # observations are seen as they were acted on
        obs, see = kept(normal, policy.extras, batch.obs)
        next_obs, _ = kept(normal, policy.extras, batch.next_obs)
        sequences = Sequences(
            obs,
            next_obs,
            batch.action,
            normal.scale(extras, batch.reward),
            batch.terminated,
            batch.truncated,
            batch.extras["log_prob"],
            batch.extras.get("carry", ()),
        )
        sequences = jax.tree.map(cut, sequences)

        def of_rows(params, rows):
            part = jax.tree.map(lambda x: x.swapaxes(0, 1), rows)
            part = part._replace(obs=see(part.obs), next_obs=see(part.next_obs))
            return objective(params, policy.structure, part, hyperparams)

        params, opt_state, info = learn_in_epochs(
            of_rows,
            update_rule(optimizer, hyperparams, 1e-5),
            policy,
            sequences,
            key,
            count=sequences.reward.shape[0],
            num_epochs=num_epochs,
            num_minibatches=num_minibatches,
            axis_name=axis_name,
        )
        extras = extras._replace(updates=next_turn(extras.updates))
        new = policy._replace(params=params, opt_state=opt_state, extras=extras)
        finite = all_finite((new, info))
        return Learned(select(finite, new, policy), info, finite)

    return actor._replace(learn=learn, hyperparams=defaults)


def _not_read(*arguments: Any) -> Any:
    raise NotImplementedError("impala reads a window in its own way")
