"""A JAX agent with six methods, beside the agent itself and NumPy."""

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gymnasium import spaces

import optix
from optix.envs.actions import action_decoder, action_encoder
from optix.host import BatchPipeline, EpisodeData, VectorBatchPipeline, as_base_agent
from optix.host.flax_ppo import FlaxPPOAgent
from optix.types import Sample, Trajectory, Transition

SMALL = {"hidden": (4,), "num_epochs": 1, "num_minibatches": 1}
REPLAY = {"learning_starts": 4, "batch_size": 4, "capacity": 64}


def cartpole(**options):
    return as_base_agent(optix.make_agent("CartPole-v1", **SMALL), "CartPole-v1")


def window_of(agent, name, steps=8, num_envs=2, seed=0, envs=None):
    pipeline = VectorBatchPipeline(name, num_envs=num_envs, window_size=steps)
    return pipeline.collect(agent, pipeline.open(), seed)


def leaves(policy):
    return [np.asarray(x) for x in jax.tree.leaves(policy)]


def same(first, second):
    pairs = zip(leaves(first), leaves(second), strict=True)
    return all(np.array_equal(x, y) for x, y in pairs)


@pytest.fixture(scope="module")
def ppo():
    """An agent and two windows that go on, before anything is learned."""
    agent = cartpole()
    pipeline = VectorBatchPipeline("CartPole-v1", num_envs=2, window_size=24)
    place = pipeline.open()
    windows = [pipeline.collect(agent, place, seed) for seed in (3, None)]
    return agent, windows, agent.state()


def restored(ppo):
    agent, windows, state = ppo
    agent.restore(state)
    agent.seed(5)
    return agent, windows


def test_on_policy_learning_is_that_of_the_agent_on_returns_by_hand(ppo):
    agent, windows = restored(ppo)
    total, first = np.zeros(2), agent.policy
    for window in windows:
        returns = np.zeros(window.rewards.shape, np.float32)
        for t in range(len(window.rewards)):
            returns[t] = total = window.rewards[t] + 0.99 * total
            total = total * ~window.dones[t]
        extras = {"log_prob": window.extras["log_prob"], "discounted_return": returns}
        batch = Trajectory(
            window.observations,
            window.actions.astype(np.int32),
            window.rewards,
            window.terminated,
            window.truncated,
            window.next_observations,
            extras,
        )
        key = jax.random.fold_in(jax.random.key(5), agent._turn + 1)
        wanted = jax.jit(agent.agent.learn)(
            agent.policy, batch, agent.agent.hyperparams, key
        )
        numbers = agent.learn(window)
        for x, y in zip(leaves(wanted.policy), leaves(agent.policy), strict=True):
            np.testing.assert_allclose(x, y, rtol=1e-5, atol=1e-6)
        assert numbers["kl"] == pytest.approx(float(wanted.info["kl"]), abs=1e-6)
    assert windows[0].dones.any()  # the returns were cut somewhere
    assert not same(first, agent.policy)


def test_the_log_probability_of_what_acted_is_found_again(ppo):
    agent, windows = restored(ppo)
    bare = EpisodeData(
        **{
            name: getattr(windows[0], name)
            for name in (
                "observations",
                "actions",
                "rewards",
                "terminated",
                "truncated",
                "next_observations",
            )
        }
    )
    agent.learn(windows[0])
    learned = agent.policy
    restored(ppo)
    agent.learn(bare)
    for x, y in zip(leaves(learned), leaves(agent.policy), strict=True):
        np.testing.assert_allclose(x, y, rtol=1e-4, atol=1e-5)


def test_it_works_alone_step_by_step():
    """As the seed's README has it: act, step, and a window of lists."""
    agent, env = (
        FlaxPPOAgent(4, 2, {"num_minibatches": 2}, 4),
        gymnasium.make("CartPole-v1"),
    )
    obs, _ = env.reset(seed=0)
    rows = []
    for _ in range(9):
        action = agent.act(obs)
        after, reward, terminated, truncated, _ = env.step(action)
        rows.append((obs, action, reward, terminated, truncated, after))
        obs = after
    before = agent.policy
    numbers = agent.learn(EpisodeData(*map(list, zip(*rows, strict=True))))
    assert np.isfinite(list(numbers.values())).all()
    assert not same(before, agent.policy)  # of eight of the nine steps


@pytest.mark.parametrize("prioritised", [False, True])
def test_off_policy_learning_is_that_of_the_agent_on_what_is_drawn(prioritised):
    agent = as_base_agent(
        optix.make_agent("Pendulum-v1", "td3", hidden=(4,)),
        "Pendulum-v1",
        n_step=2,
        gradient_steps=1,
        collect_steps=8,
        prioritised=prioritised,
        **REPLAY,
    )
    assert agent.learner == "off_policy"
    window = window_of(agent, "Pendulum-v1")
    agent.seed(7)
    replay, rng = agent.make_memory(), np.random.default_rng(7)
    policy = agent.policy
    # actions of the environment are twice those of the agent
    rows = window.observations, window.actions / 2, window.rewards
    ends = window.terminated, window.truncated, window.next_observations
    replay.add(*rows, *ends)
    for t in range(8):
        step = Trajectory(
            *(jnp.asarray(x[t]) for x in (*rows, *ends)),
            extras={"discounted_return": window.rewards[t]},
        )
        policy = agent.agent.observe(policy, step)
    exponent = 0.4 + 0.6 * 16 / 100_000 if prioritised else 0.0
    drawn = replay.sample(rng, 4, discount=0.99, n_step=2, importance_exponent=exponent)
    batch = Sample(Transition(*drawn[:5]), np.arange(4), drawn.weight)
    key = jax.random.fold_in(jax.random.key(7), 1)
    wanted = jax.jit(agent.agent.learn)(policy, batch, agent.agent.hyperparams, key)
    agent.learn(window)
    for x, y in zip(leaves(wanted.policy), leaves(agent.policy), strict=True):
        np.testing.assert_allclose(x, y, rtol=1e-4, atol=1e-5)
    assert len(agent.memory) == 16
    if prioritised:
        errors = np.asarray(wanted.priority, np.float64) ** 0.6
        held = agent.memory._tree.leaves[drawn.index]
        np.testing.assert_allclose(held[-1], errors[-1], rtol=1e-4)


def test_an_update_is_made_for_each_step_once_there_is_enough():
    agent = as_base_agent(
        optix.make_agent("CartPole-v1", "dqn", hidden=(4,)), "CartPole-v1", **REPLAY
    )
    agent.options = agent.options._replace(learning_starts=20)
    assert agent.learn(window_of(agent, "CartPole-v1")) == {}
    assert int(agent.policy.extras.updates) == 0
    agent.learn(window_of(agent, "CartPole-v1", seed=1))
    assert int(agent.policy.extras.updates) == 16
    assert int(agent.policy.extras.env_steps) == 32


def test_a_carry_is_zeroed_where_an_episode_begins_and_travels_with_the_window():
    agent = as_base_agent(
        optix.make_agent(
            "CartPole-v1",
            "recurrent_ppo",
            sequence_length=4,
            num_minibatches=1,
            num_epochs=1,
            hidden=(4,),
        ),
        "CartPole-v1",
    )
    obs = np.ones((2, 4), np.float32)
    agent.begin_episode(np.ones(2, bool))
    _, first = agent.act_batch(obs)
    assert not any(x.any() for x in leaves(first["carry"]))
    _, second = agent.act_batch(obs)
    agent.begin_episode(np.array([True, False]))
    _, third = agent.act_batch(obs)
    for before, after in zip(
        leaves(second["carry"]), leaves(third["carry"]), strict=True
    ):
        assert before.any() and not after[0].any() and after[1].any()
    assert third["began"].tolist() == [True, False]
    window = window_of(agent, "CartPole-v1")
    assert np.isfinite(list(agent.learn(window).values())).all()
    bare = EpisodeData(*(x[:, 0] for x in _fields(window)))
    with pytest.raises(ValueError, match="extras of the window must hold"):
        agent.learn(bare)


def _fields(window):
    return (
        window.observations,
        window.actions,
        window.rewards,
        window.terminated,
        window.truncated,
        window.next_observations,
    )


def test_probabilities_are_those_of_the_logits(ppo):
    agent, _ = restored(ppo)
    obs = np.array([0.3, -1.0, 0.1, 2.0], np.float32)
    _, logits = agent.agent.outputs(agent.policy, (), obs[None])
    odds = np.exp(np.asarray(logits[0], np.float64))
    np.testing.assert_allclose(agent.action_probs(obs), odds / odds.sum(), rtol=1e-5)
    greedy = as_base_agent(
        optix.make_agent("CartPole-v1", "dqn", hidden=(4,)), "CartPole-v1"
    )
    probs = greedy.action_probs(obs)
    assert sorted(probs.tolist()) == [0, 1]
    assert probs.argmax() == greedy.act(obs, explore=False)
    with pytest.raises(NotImplementedError, match="does not offer action_probs"):
        as_base_agent(
            optix.make_agent("Pendulum-v1", hidden=(4,)), "Pendulum-v1"
        ).action_probs(np.zeros(3))


def test_the_seed_decides_what_is_drawn(ppo):
    agent, _ = restored(ppo)
    obs = np.zeros((64, 4), np.float32)
    drawn = []
    for seed in (1, 1, 2):
        agent.seed(seed)
        drawn.append(np.stack([agent.act_batch(obs)[0] for _ in range(2)]))
    assert (drawn[0] == drawn[1]).all() and (drawn[0] != drawn[2]).any()
    assert (drawn[0][0] != drawn[0][1]).any()
    plays = [agent.act_batch(obs, explore=False)[0] for _ in range(2)]
    assert (plays[0] == plays[1]).all() and agent.act_batch(obs, explore=False)[1] == {}


def test_weights_go_into_a_file_and_back(ppo, tmp_path):
    agent, windows = restored(ppo)
    agent.learn(windows[0])
    agent.save_weights(str(tmp_path / "w"))
    other = cartpole()
    assert other.untouched and not same(other.policy, agent.policy)
    other.load_weights(str(tmp_path / "w"))
    assert same(other.policy, agent.policy) and not other.untouched
    for one in (agent, other):
        one.seed(1)
        one.learn(windows[1])  # returns under way are part of it
    assert same(other.policy, agent.policy)


def test_a_file_of_another_kind_or_network_is_refused(tmp_path):
    agent = cartpole()
    before = agent.state()
    with pytest.raises(FileNotFoundError, match="save_weights first"):
        agent.load_weights(str(tmp_path / "none"))
    np.savez(tmp_path / "hostile.npz", x=np.array([{"a": 1}], object))
    (tmp_path / "text.npz").write_text("hello")
    for name in ("hostile", "text"):
        with pytest.raises(ValueError, match="pickles are never loaded"):
            agent.load_weights(str(tmp_path / name))
    wide = FlaxPPOAgent(4, 2, hidden_size=5)
    wide.save_weights(str(tmp_path / "wide"))
    with pytest.raises(ValueError, match="it is of another network or agent"):
        agent.load_weights(str(tmp_path / "wide"))
    deep = FlaxPPOAgent(4, 2, hidden_size=(4, 4))
    with pytest.raises(ValueError, match="it is of another network or agent"):
        agent.restore(deep.state())
    assert all((before[name] == x).all() for name, x in agent.state().items())


def test_weights_are_averaged_and_perturbed(tmp_path):
    agents = [FlaxPPOAgent(4, 2, hidden_size=4, seed=seed) for seed in (1, 2)]
    for number, agent in enumerate(agents):
        agent.save_weights(str(tmp_path / str(number)))
    mean = FlaxPPOAgent(4, 2, hidden_size=4)
    mean.average_weights([str(tmp_path / "0"), str(tmp_path / "1")])
    for x, y, z in zip(
        *(leaves(a.policy.params) for a in (*agents, mean)), strict=True
    ):
        np.testing.assert_allclose((x + y) / 2, z, rtol=1e-6)
    with pytest.raises(ValueError, match="at least one file"):
        mean.average_weights([])
    before = mean.policy
    mean.perturb_weights(0.0)
    assert same(before, mean.policy)
    mean.perturb_weights(0.1)
    ratio = mean.policy.params["actor"]["Dense_0"]["kernel"]
    ratio = ratio / before.params["actor"]["Dense_0"]["kernel"] - 1
    assert 0.02 < np.std(ratio) < 0.3


def test_half_precision_is_kept_bit_for_bit(tmp_path):
    agent = FlaxPPOAgent(4, 2, hidden_size=4)
    half = jax.tree.map(lambda x: x.astype(jnp.bfloat16), agent.policy.params)
    agent.policy = agent.policy._replace(params=half)
    agent.save_weights(str(tmp_path / "half"))
    agent.perturb_weights(0.5)
    agent.load_weights(str(tmp_path / "half"))
    assert same(half, agent.policy.params)
    assert jax.tree.leaves(agent.policy.params)[0].dtype == jnp.bfloat16


def test_new_weights_are_taken_until_something_was_learned(ppo):
    agent = cartpole()
    first = agent.policy
    agent.reset(11)
    assert not same(first, agent.policy)
    agent.restore(agent.state())
    taken = agent.policy
    agent.reset(12)
    assert same(taken, agent.policy)


def test_actions_of_any_box_are_undone():
    low = np.array([-2.0, 0.0, -np.inf, -np.inf, 3.0], np.float32)
    high = np.array([4.0, np.inf, 1.0, np.inf, 3.0], np.float32)
    space = spaces.Box(low, high)
    decode, encode = action_decoder("box", space), action_encoder("box", space)
    given = np.random.default_rng(0).uniform(-1, 1, (20, 5)).astype(np.float32)
    taken = np.asarray(jax.vmap(decode)(given))
    given[:, 4] = 0  # there is only the one action
    np.testing.assert_allclose(encode(taken), given, atol=1e-5)


def test_images_and_numbers_of_states_are_shown_as_the_agent_sees_them():
    class Screen(gymnasium.Env):
        observation_space = spaces.Box(0, 255, (2, 8, 6), np.uint8)
        action_space = spaces.Discrete(3)

    env = Screen()
    agent = as_base_agent(optix.make_agent(env, "dqn", hidden=(4,)), env)
    shown = np.random.default_rng(0).integers(0, 255, (2, 8, 6)).astype(np.uint8)
    probs = agent.action_probs(shown)
    _, values = agent.agent.outputs(agent.policy, (), np.moveaxis(shown, 0, -1)[None])
    assert probs.argmax() == int(np.argmax(values))
    numbers = gymnasium.make("FrozenLake-v1")
    agent = as_base_agent(optix.make_agent(numbers, **SMALL), numbers)
    _, logits = agent.agent.outputs(agent.policy, (), np.eye(16, dtype=np.float32)[[3]])
    np.testing.assert_allclose(
        agent.action_probs(3), np.asarray(jax.nn.softmax(logits[0])), rtol=1e-5
    )


def test_flax_ppo_merges_what_is_given_with_the_defaults():
    agent = FlaxPPOAgent(3, 5, optix.HyperparamSet({"clip_ratio": 0.3}))
    params = agent.get_hyperparams().params
    assert params["clip_ratio"] == 0.3 and params["discount"] == 0.99
    assert agent.action_probs(np.zeros(3)).shape == (5,)
    kernel = agent.policy.params["actor"]["Dense_0"]["kernel"]
    assert kernel.shape == (3, 64)  # one layer
    agent.set_hyperparams(optix.HyperparamSet({"discount": 0.5}))
    assert agent.get_hyperparams().params["clip_ratio"] == 0.3


def test_it_is_evaluated_by_a_pipeline(ppo):
    agent, _ = restored(ppo)
    pipeline = BatchPipeline(gymnasium.make("CartPole-v1"))
    assert 1 <= pipeline.evaluate(agent, 0, 2) <= 500
    pipeline.close()


NAN = EpisodeData(
    np.full((2, 4), np.nan), [0, 0], [0, 0], [0, 0], [0, 0], np.zeros((2, 4))
)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: as_base_agent("ppo"), "agent must be a Agent, got 'ppo'; make one by"),
        (
            lambda: FlaxPPOAgent(0, 2),
            "a size of obs_dim must be an integer >= 1, got 0",
        ),
        (lambda: FlaxPPOAgent(4, 2.5), "n_actions must be an integer >= 1, got 2.5"),
        (
            lambda: FlaxPPOAgent(4, 2, 3),
            "hyperparams must be a HyperparamSet, a mapping",
        ),
        (lambda: FlaxPPOAgent(4, 2, {"gama": 1}), "unknown hyperparameter of FlaxPPO"),
        (lambda: FlaxPPOAgent(4, 2, {"discount": 2}), "discount must be in"),
        (lambda: FlaxPPOAgent(4, 2, seed=-1), "seed must be an integer >= 0, got -1"),
        (
            lambda: FlaxPPOAgent(4, 2, hidden_size=0),
            "hidden_size must be an integer >=",
        ),
        (
            lambda: FlaxPPOAgent(4, 2).act(np.zeros(3)),
            "must act on observations of sha",
        ),
        (
            lambda: FlaxPPOAgent(4, 2).act({"a": np.zeros(4)}),
            "must be arrays of number",
        ),
        (
            lambda: cartpole().act(np.zeros(5)),
            r"must have the shape \(4,\), got \(5,\)",
        ),
        (lambda: cartpole().learn(NAN), "must be finite, but its observations hold"),
        (
            lambda: cartpole().set_hyperparams(optix.HyperparamSet({"rate": 1.0})),
            "unknown hyperparameter of the agent 'rate'",
        ),
        (
            lambda: cartpole().set_hyperparams(
                optix.HyperparamSet({"discount": np.nan})
            ),
            "discount must be in .* got nan",
        ),
        (lambda: cartpole().restore({}), "due must be in the state, got"),
        (
            lambda: as_base_agent(FlaxPPOAgent(4, 2).agent, "Pendulum-v1"),
            r"must act on observations of shape \(3,\)",
        ),
        (
            lambda: as_base_agent(FlaxPPOAgent(4, 2).agent, "CartPole-v1", n_step=2),
            "options of as_base_agent are for agents with a replay",
        ),
        (
            lambda: as_base_agent(FlaxPPOAgent(4, 2).agent, n_stp=2),
            "unknown option of as_base_agent 'n_stp'; did you mean 'n_step'",
        ),
        (
            lambda: as_base_agent(FlaxPPOAgent(4, 2).agent, learner="offpolicy"),
            "unknown learner 'offpolicy'; did you mean 'off_policy'",
        ),
        (
            lambda: as_base_agent(FlaxPPOAgent(4, 2).agent, object()),
            "env must be Gymnasium's",
        ),
    ],
)
def test_one_clear_error(call, message):
    with pytest.raises(ValueError, match=message):
        call()
