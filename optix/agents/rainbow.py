"""Rainbow (https://arxiv.org/abs/1710.02298): DQN with distributions of returns.

Every action has a categorical distribution over returns (C51,
https://arxiv.org/abs/1707.06887), learned with double Q-learning; exploration is by noise
in the weights, drawn afresh at every step, for every environment, and absent when a
policy is evaluated. Rewards are scaled by the deviation of the discounted return, so that
one support fits every environment. Dueling is the network's, returns of several steps and
prioritised replay are the learner's.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax

from optix import checks
from optix.agents.fit import check_discrete, check_outputs, feed_forward
from optix.agents.updates import apply_update, checked_optimizer, update_rule
from optix.agents.view import replay_view
from optix.math.categorical import project, support
from optix.math.masks import mask_of, mask_out, observed
from optix.networks.noisy import add_noise, apply_with_noise, perturb
from optix.trees import mean_devices
from optix.types import Agent, Discrete, Learned, Network, Policy
from optix.xla.threefry import unrolled

HYPERPARAMS = {  # name: (default, low, high), the range in which it makes sense
    "learning_rate": (2.5e-4, 0.0, 1.0),
    "discount": (0.99, 0.0, 1.0),
    "value_min": (-10.0, -1e9, 1e9),  # of the support, in scaled rewards
    "value_max": (10.0, -1e9, 1e9),
    "target_rate": (1.0, 0.0, 1.0),  # 1 copies, less follows softly
    "max_grad_norm": (10.0, 0.0, 1e9),
}
TUNED = {  # what a tuner named without bounds may change, and how far
    "learning_rate": (1e-5, 1e-2),
}


def rainbow(
    network: Network,
    observation_shape: tuple[int, ...],
    action_space: Discrete,
    *,
    target_period: int = 50,
    noise_scale: float = 0.5,
    normalize_observations: bool = False,
    normalize_rewards: bool = True,
    optimizer: Callable[[], optax.GradientTransformation] | None = None,
    axis_name: str | None = None,
    **hyperparams: float,
) -> Agent:
    """Return a Rainbow agent.

    Args:
      network: feed-forward, with dense layers, which become noisy; `apply` gives logits
        over the atoms of each action's return [..., n, num_atoms].
      observation_shape: of one observation.
      action_space: `Discrete`.
      target_period: updates between two moves of the target by `target_rate`.
      noise_scale: initial deviation of the weights, times the root of a layer's inputs.
      normalize_observations: by running moments.
      normalize_rewards: by the running deviation of the discounted return; without it
        `value_min` and `value_max` must fit the environment's own returns.
      optimizer: makes the transformation of clipped gradients that the learning rate
        scales; None is Adam. It is given `version=structure`.
      axis_name: devices whose batches form one.
      **hyperparams: defaults of the traced floats in `HYPERPARAMS`.

    Raises:
      ValueError: actions that are not discrete, sizes below one, floats out of range, a
        support whose bounds are reversed, unknown names, a network with a carry or of
        other inputs or outputs.

    >>> from optix.networks.values import action_values
    >>> network = action_values((4,), Discrete(2), dueling=True, num_atoms=51)
    >>> rainbow(network, (4,), Discrete(2), value_max=20).hyperparams["value_max"]
    20.0
    """
    check_discrete("rainbow", action_space)
    checks.positive_int("target_period", target_period)
    noise_scale = checks.within("noise_scale", noise_scale, 0.0, 100.0)
    feed_forward("rainbow", network)
    optimizer = checked_optimizer(optimizer, network.optimizer)
    floats = checks.floats("hyperparameter of rainbow", hyperparams, HYPERPARAMS)
    if floats["value_min"] >= floats["value_max"]:
        raise checks.OptionError(
            f"value_min must be below value_max={floats['value_max']}, got "
            f"{floats['value_min']}"
        )
    view = replay_view(
        observation_shape, normalize_observations, normalize_rewards, axis_name
    )
    check_outputs(
        "network of rainbow",
        network,
        (checks.shape("observation_shape", observation_shape),),
        lambda shape: len(shape) == 2 and shape[0] == action_space.n and shape[1] > 1,
        f"logits over 2 or more atoms of each of {action_space.n} actions, as "
        "action_values(..., num_atoms=51) does",
    )

    def logits(params, structure, obs):
        return network.apply(params, structure, (), observed(obs))[1]

    def perturb_rows(params, structure, key, obs):
        return apply_with_noise(
            lambda params, obs: logits(params, structure, obs), params, key, obs
        )

    noisy = network.noisy or perturb_rows

    def init(key):
        params, structure = network.init(key)
        params = add_noise(params, noise_scale)
        opt_state = update_rule(optimizer, floats).init(params)
        return Policy(params, structure, opt_state, view.init(params))

    def outputs(policy, carry, obs):
        """The mean returns of all actions, without noise, on the default support."""
        obs = view.normalize(policy.extras, obs)
        out = logits(policy.params.mean, policy.structure, obs)
        atoms = support(floats["value_min"], floats["value_max"], out.shape[-1])
        return carry, mask_out(jax.nn.softmax(out) @ atoms, mask_of(obs))

    def act(policy, carry, obs, hyperparams, key, explore):
        # whatever the hyperparameters, the order of the actions' means is the same
        del hyperparams
        params, structure, _, extras = policy
        obs = view.normalize(extras, obs)

        if explore:
            # environments that shared a draw would do alike, and see less
            out = noisy(params, structure, unrolled(key), observed(obs))
        else:
            out = logits(params.mean, structure, obs)
        atoms = jnp.arange(out.shape[-1], dtype=jnp.float32)
        return carry, _best(out, atoms, mask_of(obs)), {}

    def learn(policy, batch, hyperparams, key):
        """Learn from one `Sample` of `Transition`."""
        params, structure, _, extras = policy
        online_key, choose_key, target_key = jax.random.split(unrolled(key), 3)
        rows = view.rows(extras, batch)

        next_logits = logits(
            perturb(extras.target, target_key), structure, rows.next_obs
        )
        atoms = support(
            hyperparams["value_min"], hyperparams["value_max"], next_logits.shape[-1]
        )
        chosen = _best(
            logits(perturb(params, choose_key), structure, rows.next_obs),
            atoms,
            mask_of(rows.next_obs),
        )
        moved = rows.reward[:, None] + rows.discount[:, None] * atoms
        target = jax.vmap(project, in_axes=(0, 0, None))(
            moved, jax.nn.softmax(_of(next_logits, chosen)), atoms
        )

        def loss(params):
            out = logits(perturb(params, online_key), structure, rows.obs)
            out = jax.nn.log_softmax(_of(out, rows.action))
            divergence = -jnp.sum(target * out, -1)
            value = jnp.exp(out) @ atoms
            return jnp.mean(batch.weight * divergence), (divergence, value)

        (value_loss, (divergence, value)), grads = jax.value_and_grad(
            loss, has_aux=True
        )(params)
        info = {"value_loss": value_loss, "value": value.mean()}
        grads, info = mean_devices((grads, info), axis_name)
        rule = update_rule(optimizer, hyperparams)
        rate = hyperparams["target_rate"]
        policy = apply_update(policy, grads, rule, rate, target_period)
        return Learned(policy, info, priority=divergence)

    return Agent(
        init,
        lambda batch: (),
        act,
        learn,
        floats,
        view.observe,
        outputs,
        axis_name,
        output_names=("q_values",),
        metrics=("value", "value_loss"),
    )


def _best(logits, atoms, mask):
    """The allowed action of the greatest mean, [...] of logits [..., n, num_atoms]."""
    return jnp.argmax(mask_out(jax.nn.softmax(logits) @ atoms, mask), -1)


def _of(logits, action):
    """The logits of each row's action, [N, num_atoms]."""
    chosen = jax.nn.one_hot(action, logits.shape[1])[..., None]
    return jnp.sum(logits * chosen, 1)
