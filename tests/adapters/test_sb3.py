"""Stable-Baselines3's models in the loop: the same learning as their own."""

import gymnasium
import numpy as np
import pytest
import torch

sb3 = pytest.importorskip("stable_baselines3", reason="Stable-Baselines3 is not there")
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize  # noqa: E402

from optix.host.agent import HyperparamSet  # noqa: E402
from optix.host.window import EpisodeData  # noqa: E402
from optix_torch import SB3Agent  # noqa: E402
from tests.adapters.acting import same  # noqa: E402

REPLAY = {"learning_starts": 6, "batch_size": 4, "buffer_size": 40}


def small():
    """What makes a model small; it writes into its policy's, so each has its own."""
    return {"policy_kwargs": {"net_arch": [4]}, "device": "cpu", "seed": 0}


class Walk(gymnasium.Env):
    """A walk by deterministic steps that ends, or is cut, at fixed numbers of them."""

    observation_space = gymnasium.spaces.Box(-10, 10, (2,), np.float32)

    def __init__(self, discrete=True, offset=0, cut=5):
        self.discrete, self.offset, self.cut = discrete, offset, cut
        spaces = gymnasium.spaces
        box = spaces.Box(np.float32([-2.0]), np.float32([1.0]))
        self.action_space = spaces.Discrete(2) if discrete else box

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.steps, self.at = 0, 0.1 * self.offset
        return self.seen(), {}

    def seen(self):
        return np.float32([self.at, self.steps / 5])

    def step(self, action):
        self.steps += 1
        self.at += float(np.ravel(action)[0]) - 0.4
        ended = self.steps == self.cut
        return self.seen(), -abs(self.at), ended and self.offset == 1, ended, {}


def envs(discrete=True, count=2):
    return DummyVecEnv([lambda k=k: Walk(discrete, k) for k in range(count)])


def collect(agent, worlds, obs, steps):
    """A window of `worlds`, and the observations it ended on."""
    rows, extras = [], []
    for _ in range(steps):
        action, extra = agent.act_batch(obs)
        results = [world.step(a) for world, a in zip(worlds, action, strict=True)]
        after, reward, terminated, truncated, _ = map(
            np.array, zip(*results, strict=True)
        )
        truncated = truncated & ~terminated
        rows.append((obs, action, reward, terminated, truncated, after))
        extras.append(extra)
        done = terminated | truncated
        obs = after.copy()
        for k in np.flatnonzero(done):
            obs[k] = worlds[k].reset()[0]
        if done.any():
            agent.begin_episode(done)
    fields = [np.stack(field) for field in zip(*rows, strict=True)]
    kept = {name: np.stack([e[name] for e in extras]) for name in extras[0]}
    return EpisodeData(*fields, extras=kept), obs


def begin(agent, discrete, count=2):
    worlds = [Walk(discrete, k) for k in range(count)]
    agent.begin_episode(np.ones(count, bool))
    return worlds, np.stack([world.reset()[0] for world in worlds])


MODELS = {
    "ppo": lambda env: sb3.PPO("MlpPolicy", env, n_steps=8, batch_size=8, **small()),
    "a2c": lambda env: sb3.A2C("MlpPolicy", env, n_steps=8, **small()),
    "dqn": lambda env: sb3.DQN(
        "MlpPolicy", env, train_freq=2, target_update_interval=6, **small(), **REPLAY
    ),
    "sac": lambda env: sb3.SAC("MlpPolicy", env, train_freq=2, **small(), **REPLAY),
    "td3": lambda env: sb3.TD3("MlpPolicy", env, train_freq=2, **small(), **REPLAY),
}
DISCRETE = {"ppo": True, "a2c": True, "dqn": True, "sac": False, "td3": False}
STEPS = {"ppo": 8, "a2c": 8, "dqn": 2, "sac": 2, "td3": 2}


def make(name, **options):
    model = MODELS[name](envs(DISCRETE[name]))
    options = {"total_timesteps": 48} if name == "dqn" else {}
    return SB3Agent(model, **options)


@pytest.mark.parametrize("name", MODELS)
def test_it_learns_what_the_models_own_learn_would(name):
    """Bit for bit, where windows are as long as the model's own rollouts."""
    alone = MODELS[name](envs(DISCRETE[name]))
    agent = make(name)
    torch.manual_seed(1)
    np.random.seed(1)  # noqa: NPY002
    alone.action_space.seed(1)
    alone.learn(48)
    torch.manual_seed(1)
    np.random.seed(1)  # noqa: NPY002
    agent.model.action_space.seed(1)
    worlds, obs = begin(agent, DISCRETE[name])
    for _ in range(48 // 2 // STEPS[name]):
        window, obs = collect(agent, worlds, obs, STEPS[name])
        agent.learn(window)
    wanted = alone.policy.state_dict()
    for key, value in agent.model.policy.state_dict().items():
        torch.testing.assert_close(value, wanted[key], rtol=1e-4, atol=1e-6, msg=key)
    assert agent.model.num_timesteps == 48
    assert agent.model._n_updates == alone._n_updates > 0


@pytest.mark.parametrize("name", MODELS)
def test_a_restored_agent_goes_on_bit_for_bit(name, tmp_path):
    def window_of(agent):
        agent.seed(4)
        worlds, obs = begin(agent, DISCRETE[name])
        return collect(agent, worlds, obs, 8)[0]

    agent, other = make(name), make(name)
    agent.learn(window_of(agent))
    state = agent.state()
    agent.save_weights(str(tmp_path / "weights"))
    other.load_weights(str(tmp_path / "weights"))
    if agent.memory is not None:
        other.memory = other.make_memory()
        other.memory.restore(agent.memory.state())
        assert len(other.memory) == len(agent.memory) == 16
    for one in (agent, other):
        assert same(one.state(), state)
        told = one.learn(window_of(one))
        assert told and np.isfinite(list(told.values())).all()
    assert same(agent.state(), other.state()) and not same(agent.state(), state)
    with pytest.raises(ValueError, match="of the state must"):
        other.restore({**state, "policy.extra": np.zeros(1)})


def test_constants_of_the_model_are_hyperparameters():
    agent = make("ppo")
    params = agent.get_hyperparams().params
    assert params["learning_rate"] == 3e-4 and params["clip_range"] == 0.2
    assert params["n_epochs"] == 10 and "tau" not in params
    agent.set_hyperparams(
        HyperparamSet({"learning_rate": 0.5, "clip_range": 0.3, "gamma": 0.9})
    )
    model = agent.model
    assert (model.lr_schedule(0.3), model.clip_range(0.7), model.gamma) == (
        0.5,
        0.3,
        0.9,
    )
    worlds, obs = begin(agent, True)
    told = agent.learn(collect(agent, worlds, obs, 8)[0])
    assert told["learning_rate"] == 0.5 and told["clip_range"] == 0.3
    assert model.rollout_buffer.gamma == 0.9
    kept = SB3Agent(
        sb3.SAC("MlpPolicy", envs(False), ent_coef=0.2, **small(), **REPLAY)
    )
    kept.set_hyperparams(HyperparamSet({"ent_coef": 0.7, "tau": 0.5}))
    assert kept.model.ent_coef_tensor.item() == pytest.approx(0.7)
    for wrong, match in (
        ({"gamma": 2.0}, "gamma must be in"),
        ({"gama": 0.9}, "unknown hyperparameter of SB3Agent 'gama'; did you mean"),
    ):
        with pytest.raises(ValueError, match=match):
            agent.set_hyperparams(HyperparamSet(wrong))


def test_exploration_follows_the_models_schedule():
    agent = make("dqn")
    worlds, obs = begin(agent, True)
    rates = []
    for _ in range(6):
        window, obs = collect(agent, worlds, obs, 4)
        agent.learn(window)
        rates.append(agent.model.exploration_rate)
    assert rates[-1] == pytest.approx(0.05) and rates[0] < 1
    agent.learn(collect(agent, worlds, obs, 4)[0])  # beyond them it stays
    assert agent.model.exploration_rate == pytest.approx(0.05)


@pytest.mark.parametrize("name", ["ppo", "dqn", "sac"])
def test_a_vecnormalize_is_kept_up_to_date_and_used(name):
    normalize = VecNormalize(envs(DISCRETE[name]), gamma=0.9)
    total = {"total_timesteps": 48} if name == "dqn" else {}
    agent = SB3Agent(MODELS[name](normalize), **total)
    worlds, obs = begin(agent, DISCRETE[name])
    windows = []
    for _ in range(2):
        window, obs = collect(agent, worlds, obs, 8)
        agent.learn(window)
        windows.append(window)
    rows = np.concatenate([w.observations.reshape(-1, 2) for w in windows])
    np.testing.assert_allclose(normalize.obs_rms.mean, rows.mean(0), atol=1e-4)
    np.testing.assert_allclose(normalize.obs_rms.var, rows.var(0), rtol=1e-2)
    seen = agent._seen(rows)
    np.testing.assert_allclose(seen, normalize.normalize_obs(rows))
    if name == "ppo":
        returns, running = [], np.zeros(2)
        for window in windows:
            for reward, ended in zip(window.rewards, window.dones, strict=True):
                running = running * 0.9 + reward
                returns.append(running)
                running = running * ~ended
        deviation = np.std(returns)
        np.testing.assert_allclose(np.sqrt(normalize.ret_rms.var), deviation, rtol=1e-2)
    else:  # the replay holds what the environment showed
        kept = agent.memory.state()
        np.testing.assert_array_equal(
            kept["rewards"][:8], windows[0].rewards.astype(np.float32)
        )
    state = agent.state()
    agent.learn(collect(agent, worlds, obs, 8)[0])
    agent.restore(state)
    assert same(agent.state(), state)


def test_of_an_episode_cut_short_what_is_stored_before_does_not_lead_on():
    model = sb3.SAC(
        "MlpPolicy", envs(False), n_steps=3, train_freq=2, **small(), **REPLAY
    )
    agent = SB3Agent(model)
    for _ in range(2):  # fresh episodes at step 4, where none has ended
        worlds, obs = begin(agent, False)
        agent.learn(collect(agent, worlds, obs, 4)[0])
    buffer = agent.memory.buffer
    assert buffer.timeouts[3].tolist() == [1, 1] and buffer.dones[3].tolist() == [0, 0]
    assert type(buffer).__name__ == "NStepReplayBuffer"
    agent.set_hyperparams(HyperparamSet({"gamma": 0.5}))
    agent.learn(collect(agent, worlds, obs, 4)[0])
    assert buffer.gamma == 0.5


def test_a_replay_that_the_model_came_with_is_gone_on_from():
    model = MODELS["sac"](envs(False))
    model.learn(12)
    agent = SB3Agent(model)
    worlds, obs = begin(agent, False)
    before = model.replay_buffer.size()
    agent.learn(collect(agent, worlds, obs, 4)[0])
    assert len(agent.memory) == 2 * before + 8
    other = agent.make_memory()
    assert len(other) == 0
    with pytest.raises(ValueError, match="a window must be of the 2 environments"):
        agent.memory.of(3)


def test_evaluation_is_deterministic_and_probabilities_are_the_models():
    agent = make("ppo")
    obs = np.random.default_rng(0).normal(size=(6, 2)).astype(np.float32)
    played, extras = agent.act_batch(obs, explore=False)
    probs = np.stack([agent.action_probs(row) for row in obs])
    assert extras == {} and (probs.argmax(1) == played).all()
    np.testing.assert_allclose(probs.sum(1), 1, rtol=1e-6)
    assert make("dqn").action_probs(obs[0]).sum() == 1
    with pytest.raises(NotImplementedError, match="does not offer action_probs"):
        make("sac").action_probs(obs[0])


def test_the_model_can_still_be_saved_and_learn_alone(tmp_path):
    agent = make("ppo")
    worlds, obs = begin(agent, True)
    agent.learn(collect(agent, worlds, obs, 8)[0])
    agent.model.save(tmp_path / "model")
    loaded = sb3.PPO.load(tmp_path / "model", device="cpu")
    again = SB3Agent(loaded)
    assert same(
        {k: v for k, v in agent.state().items() if "policy." in k},
        {k: v for k, v in again.state().items() if "policy." in k},
    )
    window, _ = collect(again, worlds, obs, 8)
    again.learn(window)
    agent.model.learn(16)


def test_state_dependent_exploration_and_images():
    model = sb3.PPO("MlpPolicy", envs(False), use_sde=True, n_steps=8, **small())
    agent = SB3Agent(model)
    worlds, obs = begin(agent, False)
    window, _ = collect(agent, worlds, obs, 8)
    assert np.isfinite(list(agent.learn(window).values())).all()
    image = gymnasium.spaces.Box(0, 255, (36, 40, 3), np.uint8)

    class Film(Walk):
        observation_space = image

        def seen(self):
            return np.full((36, 40, 3), self.steps, np.uint8)

    film = sb3.DQN(
        "CnnPolicy",
        Film(),
        buffer_size=20,
        learning_starts=2,
        batch_size=2,
        device="cpu",
    )
    agent = SB3Agent(film, total_timesteps=20)
    worlds = [Film(), Film()]
    agent.begin_episode(np.ones(2, bool))
    obs = np.stack([world.reset()[0] for world in worlds])
    agent.learn(collect(agent, worlds, obs, 4)[0])
    assert agent.memory.buffer.observations.shape == (10, 2, 3, 36, 40)


def test_wrong_calls():
    for wrong in ("model.zip", None, sb3.PPO, 3):
        with pytest.raises(ValueError, match="model must be a PPO, A2C, DQN, SAC, TD3"):
            SB3Agent(wrong)
    with pytest.raises(ValueError, match="total_timesteps must be given, for explorat"):
        SB3Agent(MODELS["dqn"](envs()))
    moving = sb3.PPO("MlpPolicy", envs(), learning_rate=lambda left: left, **small())
    with pytest.raises(ValueError, match="total_timesteps must be given, for lr_sched"):
        SB3Agent(moving)
    with pytest.raises(ValueError, match="total_timesteps must be an integer"):
        SB3Agent(moving, total_timesteps=0)
    assert "learning_rate" not in SB3Agent(moving, total_timesteps=9).hyperparams
