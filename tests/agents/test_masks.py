"""Action masks: an agent never does, and never hopes for, what is forbidden."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gymnax.environments import spaces
from jax import jit

import optix
from optix.agents.dqn import dqn
from optix.agents.masking import masked_policy, masked_values
from optix.agents.pqn import pqn
from optix.agents.rainbow import rainbow
from optix.envs.device import device
from optix.math.masks import NEVER, mask_out, random_action
from optix.math.running import Moments
from optix.networks.mlp import actor_critic
from optix.registry import ALGORITHMS
from optix.types import Discrete, Masked, Network, Sample, Trajectory, Transition
from tests import probes

SMALL = {"num_envs": 8, "hidden": (8,), "discount": 0.5, "learning_rate": 1e-2}
WINDOW = {"num_steps": 32, "num_minibatches": 4, "sequence_length": 8}
REPLAY = {
    "num_steps": 64,
    "batch_size": 16,
    "capacity": 512,
    "learning_starts": 64,
    "n_step": 2,
}
SETTINGS = {
    "ppo": {**WINDOW},
    "recurrent_ppo": {**WINDOW, "cell_size": 4},
    "impala": {**WINDOW},
    "pqn": {**WINDOW, "learning_rate": 3e-2, "epsilon_steps": 500.0},
    "recurrent_pqn": {
        **WINDOW,
        "cell_size": 4,
        "learning_rate": 3e-2,
        "epsilon_steps": 500.0,
    },
    "dqn": {**REPLAY, "epsilon_steps": 500.0},
    "rainbow": {**REPLAY, "num_atoms": 11, "prioritised": True},
}


def made(name, env=None, **options):
    settings = {**SMALL, **SETTINGS[name], **options}
    known = ALGORITHMS[name]
    takes = known.agent_options() | known.learner_options() | known.network_options()
    settings = {key: value for key, value in settings.items() if key in takes}
    return optix.make(env or probes.Masks(), name, evaluation_episodes=128, **settings)


@pytest.mark.parametrize(
    ("name", "env"),
    [*((name, probes.Masks()) for name in SETTINGS), ("ppo", probes.MaskedDials())],
)
def test_every_agent_finds_the_best_of_what_is_allowed(name, env):
    learner = made(name, env).learner

    @jit
    def run(key):
        init_key, run_key, score_key = jax.random.split(key, 3)

        def step(state, key):
            on = jnp.bool_(True)
            state, report = learner.step(state, learner.hyperparams, key, on)
            return state, (report.trajectory, report.finite)

        keys = jax.random.split(run_key, 12)
        state, (told, finite) = jax.lax.scan(step, learner.init(init_key), keys)
        score = learner.evaluate(state.policy, learner.hyperparams, score_key)
        return told, finite.all(), score

    told, finite, score = run(jax.random.key(0))
    # a forbidden action costs 100
    assert np.asarray(told.reward).min() >= 0 and finite
    # a random policy that keeps to the mask finds 1.5 or less a step
    assert 4 * env.BEST - 0.6 < float(score) <= 12


def rows(mask, next_mask, action=0, discount=0.5):
    n = len(mask)
    obs = Masked(jnp.zeros((n, 1)), jnp.asarray(mask))
    next_obs = Masked(jnp.zeros((n, 1)), jnp.asarray(next_mask))
    full = jnp.full(n, discount)
    return Sample(
        Transition(obs, jnp.full(n, action), jnp.ones(n), full, next_obs),
        jnp.arange(n),
        jnp.ones(n),
    )


def constant(value):
    """A network whose outputs are its only parameter."""
    value = jnp.asarray(value, jnp.float32)

    def apply(params, structure, carry, obs):
        del structure
        return carry, jnp.broadcast_to(params, (*obs.shape[:-1], *value.shape))

    return Network(lambda key: (value, ()), lambda batch: (), apply)


@pytest.mark.parametrize("double", [True, False])
def test_targets_of_dqn_are_the_best_of_what_is_allowed(double):
    agent = dqn(constant([1.0, 5.0, 9.0]), (1,), Discrete(3), double=double)
    masks = [[True, False, False], [True, True, False], [False, False, False]]
    sample = rows([[True] * 3] * 3, masks)
    learned = agent.learn(
        agent.init(jax.random.key(0)), sample, agent.hyperparams, jax.random.key(0)
    )
    # where nothing is allowed everything is
    target = 1 + 0.5 * np.array([1.0, 5.0, 9.0])
    np.testing.assert_allclose(learned.priority, np.abs(1 - target), rtol=1e-6)


def test_targets_of_rainbow_are_those_of_an_allowed_action():
    atoms = np.linspace(-10, 10, 3)
    sure = np.where(np.eye(3), 0.0, -50.0)  # of actions worth -10, 0 and 10
    layer = {"kernel": jnp.zeros((1, 9)), "bias": jnp.float32(sure.ravel())}
    network = constant(sure)._replace(
        init=lambda key: ({"head": layer}, ()),
        apply=lambda params, structure, carry, obs: (
            carry,
            (obs @ params["head"]["kernel"] + params["head"]["bias"]).reshape(-1, 3, 3),
        ),
    )
    agent = rainbow(
        network, (1,), Discrete(3), noise_scale=0.0, normalize_rewards=False
    )
    policy = agent.init(jax.random.key(0))
    mask = jnp.array([[True, False, False], [True, True, False], [False] * 3])
    out = agent.outputs(policy, (), Masked(jnp.zeros((3, 1)), mask))[1]
    expected = np.where([[1, 0, 0], [1, 1, 0], [1, 1, 1]], atoms, NEVER)
    np.testing.assert_allclose(out, expected, atol=1e-4)
    sample = rows([[True] * 3] * 3, mask)._replace(weight=jnp.ones(3))
    sample = sample._replace(items=sample.items._replace(reward=jnp.zeros(3)))
    learned = agent.learn(policy, sample, agent.hyperparams, jax.random.key(0))
    # half of -10 and half of 10 lie between two atoms, of which one is likely
    np.testing.assert_allclose(learned.priority, [25, 50, 50], atol=1e-3)


def test_a_cut_episode_is_bootstrapped_from_what_is_allowed():
    agent = pqn(
        constant([1.0, 5.0, 9.0]), (1,), Discrete(3), num_minibatches=1, num_epochs=1
    )
    mask = jnp.array([[[True, True, False]]])
    no, yes = jnp.zeros((1, 1), bool), jnp.ones((1, 1), bool)
    obs = Masked(jnp.zeros((1, 1, 1)), mask)
    batch = Trajectory(obs, jnp.zeros((1, 1), int), jnp.ones((1, 1)), no, yes, obs, {})
    floats = {**agent.hyperparams, "discount": 0.5}
    learned = agent.learn(
        agent.init(jax.random.key(0)), batch, floats, jax.random.key(0)
    )
    loss = 0.5 * (1 - (1 + 0.5 * 5)) ** 2
    np.testing.assert_allclose(learned.info["value_loss"], loss, rtol=1e-6)


@pytest.mark.parametrize("name", ["ppo", "impala"])
def test_the_policy_that_learns_is_the_one_that_acted(name):
    options = {"num_epochs": 1, "num_minibatches": 1, "learning_rate": 0.0}
    learner = made(name, **options).learner
    state = learner.init(jax.random.key(0))
    _, report = jit(learner.step)(
        state, learner.hyperparams, jax.random.key(1), jnp.bool_(True)
    )
    assert abs(float(report.metrics["kl"])) < 1e-6
    assert float(report.metrics["entropy"]) < np.log(3)  # never four allowed


def test_normalisers_see_no_mask():
    agent = optix.make_agent(probes.Masks(), "ppo", hidden=(4,))
    policy = agent.init(jax.random.key(0))
    assert policy.extras.observations.mean.shape == (1,)
    assert isinstance(policy.extras.observations, Moments)


def test_masked_logits_have_finite_entropy_and_gradients():
    mask = jnp.array([[True, False, True], [False, False, False]])

    def loss(logits):
        from optix.agents.distributions import categorical

        actions = categorical(mask_out(logits, mask))
        return actions.entropy().sum() + actions.log_prob(jnp.array([0, 1])).sum()

    logits = jnp.array([[0.0, 9.0, 0.0], [0.0, 0.0, 0.0]])
    value, slope = jax.value_and_grad(loss)(logits)
    # of two that are alike, and of three
    expected = np.log(2) + np.log(3) - np.log(2) - np.log(3)
    np.testing.assert_allclose(value, expected, atol=1e-5)
    assert jnp.isfinite(slope).all() and float(slope[0, 1]) == 0


def test_random_actions_are_spread_over_what_is_allowed():
    mask = jnp.tile(jnp.array([True, False, True, True]), (3000, 1))
    counts = np.bincount(random_action(jax.random.key(0), mask), minlength=4)
    assert counts[1] == 0
    assert (np.abs(counts[[0, 2, 3]] - 1000) < 4 * np.sqrt(1000 * 2 / 3)).all()


def test_networks_without_masks_are_what_they_were():
    network = actor_critic((2,), Discrete(3), hidden=(4,))
    params, structure = network.init(jax.random.key(0))
    obs = jnp.ones((5, 2))
    plain = network.apply(params, structure, (), obs)
    text = str(jax.make_jaxpr(network.apply)(params, structure, (), obs))
    wrapped = masked_policy(network, Discrete(3))
    assert str(jax.make_jaxpr(wrapped.apply)(params, structure, (), obs)) == text
    chosen = wrapped.apply(params, structure, (), Masked(obs, jnp.ones((5, 3), bool)))
    jax.tree.map(np.testing.assert_array_equal, chosen, plain)


def test_a_mask_of_another_number_is_refused():
    values = constant([1.0, 2.0])
    policy = values._replace(
        apply=lambda *given: (given[2], (values.apply(*given)[1], jnp.zeros(1)))
    )
    obs = Masked(jnp.zeros((1, 1)), jnp.ones((1, 3), bool))
    for network in (masked_policy(policy, Discrete(2)), masked_values(values)):
        with pytest.raises(ValueError, match="one for each of its 3"):
            network.apply(jnp.ones(2), (), (), obs)


class Changed(probes.Masks):
    def __init__(self, mask=None, space=None):
        self.mask, self.space = mask, space

    def action_mask(self, state, params):
        return state.mask if self.mask is None else self.mask(state)

    def action_space(self, params):
        return self.space or super().action_space(params)

    def step_env(self, key, state, action, params):
        return super().step_env(key, state, jnp.int32(action).ravel()[0], params)


@pytest.mark.parametrize(
    ("env", "message"),
    [
        (Changed(lambda s: s.mask & False), "must allow one action or more"),
        (Changed(lambda s: s.mask[:3]), r"mask of Changed must be bool of shape \[4\]"),
        (Changed(lambda s: s.mask * 1.0), "must be bool"),
        (Changed(lambda s: s.nothing), "action_mask of Changed failed with Attribute"),
        (
            Changed(space=spaces.Box(-1, 1, (4,))),
            "an action mask needs Discrete or MultiDiscrete",
        ),
    ],
)
def test_masks_that_are_none(env, message):
    with pytest.raises(ValueError, match=message):
        device(env)


def test_no_hindsight_and_no_plain_validation():
    with pytest.raises(ValueError, match="must have action masks"):
        optix.make(probes.Masks(), "ppo", validation=probes.FlipBits(4))
    with pytest.raises(ValueError, match="hindsight must be None in Masks"):
        optix.make(probes.Masks(), "dqn", hindsight=lambda *window: window)
