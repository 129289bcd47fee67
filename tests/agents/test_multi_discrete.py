"""Several choices in one action: independent of each other, learned together."""

from operator import itemgetter

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import optix
from optix.agents.distributions import categoricals
from optix.agents.dqn import dqn
from optix.agents.td3 import td3
from optix.envs.device import device
from optix.networks.continuous import actor_and_critic
from optix.networks.values import action_values
from optix.population.ensemble import ensemble, join, stack
from optix.run.load import LoadedPolicy
from optix.types import Box, Discrete, Masked, MultiDiscrete
from tests import probes
from tests.agents.windows import training

SIZES = (3, 1, 4)
SMALL = {"hidden": (4,), "num_envs": 8, "num_steps": 8, "evaluation_episodes": 2}


def by_hand(logits, action):
    """Log probability, entropy and mode of one row, part by part in NumPy."""
    log_prob, entropy, mode, at = 0.0, 0.0, [], 0
    for size, chosen in zip(SIZES, action, strict=True):
        part = np.float64(logits[at : at + size])
        p = np.exp(part - part.max())
        p /= p.sum()
        log_prob += np.log(p[chosen])
        entropy -= (p * np.log(p)).sum()
        mode.append(int(p.argmax()))
        at += size
    return log_prob, entropy, mode


def test_the_parts_of_an_action_are_independent():
    random = np.random.default_rng(0)
    logits = random.normal(size=(5, 2, sum(SIZES))).astype(np.float32) * 3
    action = np.stack([random.integers(size, size=(5, 2)) for size in SIZES], -1)
    found = categoricals(SIZES)(jnp.asarray(logits))
    rows = zip(logits.reshape(10, -1), action.reshape(10, -1), strict=True)
    log_prob, entropy, mode = zip(*(by_hand(*row) for row in rows), strict=True)
    np.testing.assert_allclose(
        found.log_prob(jnp.asarray(action)).ravel(), log_prob, rtol=1e-5
    )
    np.testing.assert_allclose(found.entropy().ravel(), entropy, rtol=1e-5)
    assert found.mode().reshape(10, -1).tolist() == list(mode)


def test_draws_follow_the_probabilities_of_each_part():
    logits = jnp.log(jnp.array([0.2, 0.3, 0.5, 1.0, 0.1, 0.2, 0.3, 0.4]))
    logits = jnp.broadcast_to(logits, (4000, 8))
    action, log_prob = categoricals(SIZES)(logits).sample_and_log_prob(
        seed=jax.random.key(0)
    )
    assert action.dtype == jnp.int32 and action.shape == (4000, 3)
    np.testing.assert_allclose(
        np.bincount(action[:, 0], minlength=3) / 4000, [0.2, 0.3, 0.5], atol=0.04
    )
    np.testing.assert_allclose(
        np.bincount(action[:, 2], minlength=4) / 4000, [0.1, 0.2, 0.3, 0.4], atol=0.04
    )
    both = (action[:, 0] == 2) & (action[:, 2] == 3)
    assert abs(both.mean() - 0.5 * 0.4) < 0.04  # one says nothing of the other
    np.testing.assert_allclose(
        log_prob[both], np.log(0.5) + np.log(0.4), rtol=1e-5, atol=1e-6
    )


def test_slopes_of_what_is_no_choice_are_none():
    def told(logits):
        actions = categoricals(SIZES)(logits)
        return actions.entropy() + actions.log_prob(jnp.array([0, 0, 1]))

    slope = jax.grad(told)(jnp.zeros(8))
    assert jnp.isfinite(slope).all() and float(slope[3]) == 0


LEARN = {
    "ppo": {"num_minibatches": 4},
    "recurrent_ppo": {"num_minibatches": 4, "sequence_length": 8, "cell_size": 8},
    "impala": {"num_minibatches": 4, "sequence_length": 8},
}


@pytest.mark.parametrize("name", LEARN)
def test_each_choice_of_an_action_is_learned(name):
    learner = optix.make(
        probes.Dials(),
        name,
        num_envs=16,
        num_steps=32,
        hidden=(16,),
        learning_rate=1e-2,
        evaluation_episodes=32,
        **LEARN[name],
    ).learner
    _, score = jax.jit(training(learner, 20))(jax.random.key(0))
    # by chance a third, a half, a quarter and a half of the four: 0.4
    assert float(score) == 1.0


def test_actions_of_several_axes_are_given_in_their_shape():
    env = device(probes.Dials())
    assert env.action_space == MultiDiscrete((3, 2, 4, 2))
    state, obs = env.reset(jax.random.key(0), 16)
    # of observation -1, less 1: the last axis varies fastest
    action = jnp.broadcast_to(jnp.array([2, 0, 3, 1]), (16, 4))
    _, step = env.step(jax.random.key(1), state, action)
    right = jnp.where(obs[:, 0] < 0, 1.0, 0.25)  # at 1 the last one is right too
    np.testing.assert_allclose(step.reward, right)


def test_ppo_is_the_usual_agent():
    agent = optix.make_agent(probes.Dials(), hidden=(4,))
    assert "clip_ratio" in agent.hyperparams and agent.output_names == ("logits",)


@pytest.fixture(scope="module")
def player():
    loop = optix.make(probes.MaskedDials(), **SMALL)
    first = jax.jit(loop.init)(jax.random.key(0))
    return LoadedPolicy(loop.learner.agent, loop.learner.env, first.best)


MASKS = np.array([[0, 1, 0, 0, 1], [1, 0, 0, 1, 0], [0, 0, 1, 0, 1]], bool)
ALLOWED = [[1, 1], [0, 0], [2, 1]]


def test_a_loaded_policy_acts_under_the_masks_of_each_part(player):
    for explore in (False, True):
        actions = player.act(np.zeros((3, 1)), explore, action_mask=MASKS)
        assert actions.tolist() == ALLOWED


FREE = Masked(np.ones((3, 1), np.float32), np.ones((3, 5), bool))


def likelihoods(player, policy):
    """Of each part of an action, [3, 5]."""
    odds = np.exp(player.agent.outputs(policy, (), FREE)[1])
    each = odds[:, :3], odds[:, 3:]
    return np.concatenate([part / part.sum(1, keepdims=True) for part in each], 1)


def test_an_ensemble_takes_the_mean_of_each_part(player):
    policies = stack([player.agent.init(jax.random.key(seed)) for seed in (0, 1)])
    both = ensemble(player.agent, player.env.action_space, 2)
    policy = join(player.agent, policies, [0.25, 0.75])
    key, masked = jax.random.key(0), FREE._replace(action_mask=MASKS)
    for explore in (False, True):
        assert both.act(policy, (), masked, {}, key, explore)[1].tolist() == ALLOWED
    each = [likelihoods(player, jax.tree.map(itemgetter(i), policies)) for i in (0, 1)]
    logits = both.outputs(policy, (), FREE)[1]
    expected = 0.25 * each[0] + 0.75 * each[1]
    np.testing.assert_allclose(np.exp(logits), expected, rtol=1e-5)


def test_an_exported_policy_chooses_as_the_agent_does(player, tmp_path):
    pytest.importorskip("onnxruntime")
    from tests.onnx.parity import Played

    player.export_onnx(tmp_path / "policy.onnx")
    found = Played(tmp_path / "policy.onnx")(
        observation=np.zeros((3, 1), np.float32), action_mask=MASKS
    )
    assert found["action"].tolist() == ALLOWED and found["logits"].shape == (3, 5)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: optix.make(probes.Dials(), "dqn"),
            "dqn takes Discrete actions, but Dials has MultiDiscrete.*ppo, "
            "recurrent_ppo, impala would work",
        ),
        (lambda: optix.make(probes.Dials(), "sac"), "sac takes Box .*impala would"),
        (lambda: optix.make_agent(probes.Dials(), deterministic=True), "needs a Box"),
        (
            lambda: optix.make_agent(probes.Dials(), framework="torch"),
            "optix_torch has no agent for MultiDiscrete.*ppo, recurrent_ppo and impala",
        ),
        (
            lambda: dqn(action_values((1,), Discrete(2)), (1,), MultiDiscrete((2,))),
            "must be a Discrete, got MultiDiscrete.*use ppo, recurrent_ppo or impala",
        ),
        (
            lambda: td3(actor_and_critic((1,), Box((2,))), (1,), MultiDiscrete((2,))),
            "must be a Box, got MultiDiscrete.*use ppo, recurrent_ppo or impala",
        ),
    ],
)
def test_agents_that_can_not_say_which_can(make, message):
    with pytest.raises(ValueError, match=message):
        make()
