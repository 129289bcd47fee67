"""Agents that act as one."""

import gymnasium
import jax
import numpy as np
import pytest

import optix
from optix.host import (
    BaseAgent,
    BatchPipeline,
    EnsembleAgent,
    HyperparamSet,
    VectorBatchPipeline,
    as_base_agent,
)
from tests.numpy_agent import StillAgent


class Says(StillAgent):
    """Acts by fixed probabilities, or always in one way; writes them as a file."""

    def __init__(self, probs=None, action=None):
        self.probs, self.action = probs, action
        self.seeds = []

    def act(self, observation):
        return self.action if self.probs is None else int(np.argmax(self.probs))

    def action_probs(self, observation):
        if self.probs is None:
            raise self._missing("action_probs")
        return np.array(self.probs)

    def save_weights(self, path):
        np.savetxt(path, self.probs)

    def load_weights(self, path):
        self.probs = np.loadtxt(path)

    def seed(self, seed):
        self.seeds.append(seed)


ROWS = np.zeros((4000, 4))


def test_probabilities_are_averaged_by_normalised_weights():
    ensemble = EnsembleAgent([Says([0.9, 0.1, 0.0]), Says([0.0, 0.4, 0.6])], [1, 3])
    np.testing.assert_allclose(ensemble.weights, [0.25, 0.75])
    mean = [0.225, 0.325, 0.45]
    np.testing.assert_allclose(ensemble.action_probs(np.zeros(4)), mean)
    actions, extras = ensemble.act_batch(ROWS, explore=False)
    assert (actions == 2).all() and extras == {}  # the first alone would play 0
    drawn, _ = ensemble.act_batch(ROWS)
    shares = np.bincount(drawn, minlength=3) / len(drawn)
    np.testing.assert_allclose(shares, mean, atol=0.04)
    assert ensemble.act(np.zeros(4), explore=False) == 2


def test_actions_of_a_box_are_averaged():
    ensemble = EnsembleAgent(
        [Says(action=np.float32([1, 2])), Says(action=np.float32([3, -2]))], [1, 1]
    )
    actions, _ = ensemble.act_batch(ROWS[:3])
    assert actions.dtype == np.float32
    np.testing.assert_allclose(actions, [[2, 0]] * 3)


def test_the_seed_decides_what_is_drawn_and_members_draw_apart():
    members = [Says([0.5, 0.5]), Says([0.5, 0.5])]
    ensemble = EnsembleAgent(members)
    drawn = []
    for seed in (3, 3, 4):
        ensemble.seed(seed)
        drawn.append(ensemble.act_batch(ROWS)[0])
    assert (drawn[0] == drawn[1]).all() and (drawn[0] != drawn[2]).any()
    assert members[0].seeds[-1] != members[1].seeds[-1]


def test_members_remember_their_own_rows():
    """Recurrent members in a batch: each row by itself gives the same probabilities."""
    agents = [
        as_base_agent(
            optix.make_agent("CartPole-v1", "recurrent_ppo", hidden=(4,), cell_size=4),
            seed=seed,
        )
        for seed in range(2)
    ]
    rng = np.random.default_rng(0)
    shown = rng.normal(size=(3, 2, 4))  # [T, B, 4]
    both = EnsembleAgent(agents)
    both.begin_episode(np.ones(2, bool))
    for obs in shown[:2]:
        both.act_batch(obs, explore=False)
    held = [carry["memory"] for carry in both.carry]
    for number, agent in enumerate(agents):
        for row in range(2):
            agent.carry = None
            agent.begin_episode(np.ones(1, bool))
            for obs in shown[:2]:
                agent.act(obs[row], explore=False)
            alone = jax.tree.leaves(agent.carry["memory"])
            for x, y in zip(alone, jax.tree.leaves(held[number]), strict=True):
                np.testing.assert_allclose(x[0], y[row], rtol=1e-5)
                assert np.any(np.asarray(x))
    both.begin_episode(np.array([True, False]))
    for carry in both.carry:
        first = jax.tree.leaves(carry["memory"])[0]
        assert not first[0].any() and first[1].any()


@pytest.mark.parametrize("framework", ["jax", "torch"])
@pytest.mark.parametrize("algorithm", ["ppo", "recurrent_ppo", "dqn"])
def test_probabilities_of_a_batch_are_those_of_its_rows(framework, algorithm):
    """With what is remembered of each, in the middle of episodes and at a beginning."""
    if framework == "torch":
        pytest.importorskip("torch")
    sizes = {"hidden": (4,), "framework": framework}
    sizes |= {"cell_size": 4} if algorithm == "recurrent_ppo" else {}
    agent = optix.make_agent("CartPole-v1", algorithm, **sizes)
    agent = as_base_agent(agent) if framework == "jax" else agent
    shown = np.random.default_rng(0).normal(size=(3, 4, 4)).astype(np.float32)
    agent.begin_episode(np.ones(4, bool))
    for obs in shown[:2]:
        agent.act_batch(obs)
    agent.begin_episode(np.array([True, False, False, False]))
    before = jax.tree.map(np.array, agent.carry)
    rows = BaseAgent.action_probs_batch(agent, shown[2])
    probs = agent.action_probs_batch(shown[2])
    assert probs.shape == (4, 2)
    np.testing.assert_allclose(probs, rows, rtol=1e-5)
    np.testing.assert_allclose(probs.sum(-1), 1.0, rtol=1e-5)
    jax.tree.map(np.testing.assert_array_equal, agent.carry, before)


def test_members_are_asked_once_for_a_batch():
    class Counts(Says):
        asked = 0

        def action_probs_batch(self, observations):
            self.asked += 1
            return super().action_probs_batch(observations)

    members = [Counts([0.5, 0.5]), Counts([0.9, 0.1])]
    EnsembleAgent(members).act_batch(ROWS[:5])
    assert [member.asked for member in members] == [1, 1]


def test_agents_of_jax_and_torch_play_together(tmp_path):
    pytest.importorskip("torch")
    env = gymnasium.make("CartPole-v1")

    def make(seed):
        torch_agent = optix.make_agent(env, framework="torch", hidden=(4,))
        torch_agent.reset(seed)
        jax_agent = as_base_agent(optix.make_agent(env, hidden=(4,)), env, seed=seed)
        return EnsembleAgent([jax_agent, torch_agent], [2, 1])

    ensemble, obs = make(1), np.ones(4, np.float32)
    parts = [agent.action_probs(obs) for agent in ensemble.agents]
    mean = (2 * parts[0] + parts[1]) / 3
    np.testing.assert_allclose(ensemble.action_probs(obs), mean, rtol=1e-5)
    pipeline = VectorBatchPipeline("CartPole-v1", num_envs=2, window_size=8)
    assert 1 <= pipeline.evaluate(ensemble, 0, 2) <= 500
    assert pipeline.collect(ensemble, pipeline.open(), 0).actions.shape == (8, 2)
    pipeline.close()
    ensemble.save_weights(str(tmp_path / "both"))
    other = make(2)
    assert (other.action_probs(obs) != ensemble.action_probs(obs)).any()
    other.load_weights(str(tmp_path / "both"))
    np.testing.assert_array_equal(other.action_probs(obs), ensemble.action_probs(obs))


def test_boxes_of_jax_and_torch_within_the_bounds():
    pytest.importorskip("torch")
    env = gymnasium.make("Pendulum-v1")
    members = [
        as_base_agent(optix.make_agent(env, hidden=(4,)), env),
        optix.make_agent(env, framework="torch", hidden=(4,)),
    ]
    ensemble, obs = EnsembleAgent(members), np.ones((3, 3), np.float32)
    parts = [agent.act_batch(obs, explore=False)[0] for agent in members]
    actions, _ = ensemble.act_batch(obs, explore=False)
    np.testing.assert_allclose(actions, (parts[0] + parts[1]) / 2, rtol=1e-5)
    pipeline = BatchPipeline(env, max_episode_steps=3)
    assert -60 < pipeline.evaluate(ensemble, 0, 1) <= 0
    pipeline.close()


def test_weights_are_saved_and_set(tmp_path):
    ensemble = EnsembleAgent([Says([1.0, 0.0]), Says([0.0, 1.0])], [3, 1])
    ensemble.save_weights(str(tmp_path / "e"))
    other = EnsembleAgent([Says([0.5, 0.5]), Says([0.5, 0.5])])
    other.load_weights(str(tmp_path / "e"))
    np.testing.assert_allclose(other.action_probs(None), [0.75, 0.25])
    other.set_hyperparams(HyperparamSet({"weights": (0, 2)}))
    assert other.get_hyperparams().params == {"weights": (0.0, 1.0)}


def discrete(*sizes):
    return EnsembleAgent([Says(np.full(size, 1 / size)) for size in sizes])


@pytest.mark.parametrize(
    ("call", "kind", "message"),
    [
        (lambda path: EnsembleAgent([]), ValueError, "at least one, got none"),
        (lambda path: EnsembleAgent(["ppo"]), TypeError, "got a str; as_base_agent"),
        (
            lambda path: EnsembleAgent([Says([1.0])], [1, 2]),
            ValueError,
            "one for each of the 1 agents, got 2",
        ),
        (
            lambda path: EnsembleAgent([Says([1.0])], [-1]),
            ValueError,
            "a weight must be",
        ),
        (lambda path: EnsembleAgent([Says([1.0])], [0]), ValueError, "not all be zero"),
        (
            lambda path: discrete(2, 3).act(np.zeros(4)),
            ValueError,
            "must act in the same space",
        ),
        (
            lambda path: EnsembleAgent([Says([1.0]), Says(action=1)]).act(np.zeros(4)),
            ValueError,
            "must all offer action_probs where actions are discrete, but Says does not",
        ),
        (lambda path: discrete(2).learn(None), NotImplementedError, "does not learn"),
        (
            lambda path: discrete(2).set_hyperparams(HyperparamSet({"weight": 1})),
            ValueError,
            "did you mean 'weights'",
        ),
        (lambda path: discrete(2).load_weights(path), FileNotFoundError, "no ensemble"),
    ],
)
def test_one_clear_error(call, kind, message, tmp_path):
    with pytest.raises(kind, match=message):
        call(str(tmp_path))


def test_an_ensemble_of_others_is_not_loaded(tmp_path):
    discrete(2).save_weights(str(tmp_path / "one"))
    with pytest.raises(ValueError, match="must be those of the saved ensemble"):
        discrete(2, 2).load_weights(str(tmp_path / "one"))
