import functools
import traceback
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from optix.host.agent import BaseAgent, HyperparamSet
from optix.host.learner import host as any_host
from optix.host.window import EpisodeData

host = functools.partial(any_host, fresh=True)  # each window has its own seed
LANE_RATES = jnp.array([0.5, 2.0])


class Adder(BaseAgent):
    """One weight; learning adds rate times the return, in float64."""

    def __init__(self):
        self.weight, self.noise = np.zeros(1), None
        self.hyperparams = HyperparamSet({"rate": 1.0, "epochs": 3, "kind": "adder"})
        self.loads = 0
        self.learned = []

    def act(self, observation):
        return self.weight[0]

    def learn(self, episode_data):
        rate = self.hyperparams.params["rate"]
        self.weight = self.weight + rate * (episode_data.total_reward + self.noise)
        self.learned.append(dict(self.hyperparams.params))
        return {"weight": self.weight[0], "note": "text"}

    def get_hyperparams(self):
        return self.hyperparams

    def set_hyperparams(self, hyperparams):
        self.hyperparams = hyperparams

    def save_weights(self, path):
        Path(path).write_bytes(self.weight.tobytes())

    def load_weights(self, path):
        self.loads += 1
        self.weight = np.frombuffer(Path(path).read_bytes()).copy()

    def seed(self, seed):
        self.noise = seed % 5


class Rewards:
    """A pipeline whose rewards depend on the seed and whose score is the weight."""

    def __init__(self):
        self.collected, self.evaluated = [], []

    def open(self):
        return self

    def collect(self, agent, envs, seed):
        self.collected.append(seed)
        steps = [np.float32(agent.act(None))] * 2
        rewards = [1.0, float(seed % 7)]
        return EpisodeData(steps, steps, rewards, [True, False], [False, False], steps)

    def evaluate(self, agent, seed, episodes):
        self.evaluated.append(seed)
        return agent.act(None) * episodes

    def close(self):
        pass


def seeds(key):
    """What the learner documents: two words of the key, environment and agent."""
    return [int(word) for word in jax.random.bits(key, (2,), jnp.uint32)]


def replay(rate, keys):
    """The weight after windows with these keys, without optix's learner."""
    weight = 0.0
    for key in keys:
        env_seed, agent_seed = seeds(key)
        weight += float(jnp.float32(rate)) * (1.0 + env_seed % 7 + agent_seed % 5)
    return weight


@pytest.fixture
def learner():
    return host(Adder(), Rewards(), evaluation_episodes=1, metrics=("weight", "loss"))


def test_a_window_is_what_the_agent_does_by_itself(learner):
    key = jax.random.key(3)
    state = jax.jit(learner.init)(key)
    state, report = jax.jit(learner.step)(state, {"rate": 0.3}, key, True)
    weight = replay(0.3, [key])
    agent = learner.host.agent_of(state.policy)
    assert agent.act(None) == weight
    assert report.env_steps == 2 and report.finite
    assert agent.learned == [
        {"rate": float(np.float32(0.3)), "epochs": 3, "kind": "adder"}
    ]
    names = {"return", "window_return", "window_episodes", "weight", "loss"}
    assert set(report.metrics) == names
    assert report.metrics["weight"] == np.float32(weight)
    assert np.isnan(report.metrics["loss"])
    assert report.metrics["window_episodes"] == 2
    assert report.metrics["return"] == 1  # of the episode that ended
    assert report.metrics["window_return"] == (1 + seeds(key)[0] % 7) / 2
    assert learner.evaluate(state.policy, learner.hyperparams, key) == np.float32(
        weight
    )


def test_only_floats_are_hyperparameters(learner):
    assert learner.hyperparams == {"rate": 1.0}


def test_a_changed_float_does_not_retrace(learner):
    traces = []

    @jax.jit
    def step(state, rate):
        traces.append(1)
        return learner.step(state, {"rate": rate}, jax.random.key(0), True)[0]

    for rate in (0.1, 0.2):
        step(learner.init(jax.random.key(0)), jnp.float32(rate))
    assert len(traces) == 1


def test_old_policies_stay_what_they_were(learner):
    keys = jax.random.split(jax.random.key(0), 3)
    states = [learner.init(keys[0])]
    for key in keys:
        states.append(learner.step(states[-1], {"rate": 1.0}, key, True)[0])
    scores = [
        float(learner.evaluate(s.policy, learner.hyperparams, keys[0]))
        for s in reversed(states)
    ]
    assert scores == [replay(1.0, keys[:n]) for n in (3, 2, 1, 0)]


def test_lanes_learn_apart_and_fork_by_index(learner):
    """Two windows, lane 1 takes over lane 0, one window more, all in one program."""

    @jax.jit
    def run(keys):
        def step(state, key):
            state, _ = jax.vmap(learner.step, (0, 0, None, None))(
                state, {"rate": LANE_RATES}, key, True
            )
            return state, None

        state = jax.vmap(learner.init)(jax.random.split(keys[0], 2))
        state, _ = jax.lax.scan(step, state, keys[:2])
        forked = jax.tree.map(lambda x: x[jnp.array([0, 0])], state)
        after, _ = step(forked, keys[2])
        return jax.vmap(learner.evaluate, (0, None, None))(
            after.policy, learner.hyperparams, keys[0]
        )

    keys = jax.random.split(jax.random.key(1), 3)
    base = replay(0.5, keys[:2])
    expected = [base + replay(rate, keys[2:]) for rate in (0.5, 2.0)]
    np.testing.assert_allclose(run(keys), expected, rtol=1e-6)


def test_lanes_share_the_seeds_of_a_window():
    pipeline = Rewards()
    learner = host(Adder(), pipeline)
    state = jax.vmap(learner.init)(jax.random.split(jax.random.key(0), 2))
    key = jax.random.key(5)
    jax.vmap(learner.step, (0, 0, None, None))(state, {"rate": LANE_RATES}, key, True)
    assert pipeline.collected == [seeds(key)[0]] * 2
    policy = learner.init(key).policy
    jax.vmap(learner.evaluate, (None, None, 0))(
        policy, learner.hyperparams, jax.random.split(key, 3)
    )
    assert len(set(pipeline.evaluated)) == 3


def test_seeds_with_lanes_inside(learner):
    """Nested vmap: every lane of every seed is its own chain, a stopped seed rests."""

    @jax.jit
    @jax.vmap
    def run(key, active, scale):
        state = jax.vmap(learner.init)(jax.random.split(key, 2))
        state, report = jax.vmap(learner.step, (0, 0, None, None))(
            state, {"rate": scale * LANE_RATES}, key, active
        )
        evaluate = jax.vmap(learner.evaluate, (0, None, None))
        return evaluate(state.policy, learner.hyperparams, key), report

    keys = jax.random.split(jax.random.key(2), 3)
    active = jnp.array([True, False, True])
    scores, report = run(keys, active, jnp.array([1.0, 2.0, 3.0]))
    expected = [
        [replay(1.0 * rate, keys[:1]) for rate in (0.5, 2.0)],
        [0.0, 0.0],
        [replay(3.0 * rate, keys[2:]) for rate in (0.5, 2.0)],
    ]
    np.testing.assert_allclose(scores, expected, rtol=1e-6)
    assert report.env_steps.tolist() == [[2, 2], [0, 0], [2, 2]]
    assert report.finite.all()
    assert len(learner.host.agent.learned) == 4


def test_one_call_serves_lanes_that_do_not_differ(learner):
    state = learner.init(jax.random.key(0))
    key = jax.random.key(7)

    def step(_):
        return learner.step(state, {"rate": 0.5}, key, True)[0]

    states = jax.jit(jax.vmap(step))(jnp.arange(4))
    assert len(learner.host.agent.learned) == 1
    evaluate = jax.vmap(learner.evaluate, (0, None, None))
    scores = evaluate(states.policy, learner.hyperparams, key)
    np.testing.assert_allclose(scores, [replay(0.5, [key])] * 4)


def test_a_while_loop_ends_by_what_the_host_says(learner):
    @jax.jit
    def run(state):
        def step(carry):
            state, count, _ = carry
            key = jax.random.fold_in(jax.random.key(0), count)
            state, report = learner.step(state, {"rate": 1.0}, key, True)
            return state, count + 1, report.metrics["weight"]

        return jax.lax.while_loop(lambda carry: carry[2] < 30, step, (state, 0, 0.0))

    _, count, weight = run(learner.init(jax.random.key(0)))
    keys = [jax.random.fold_in(jax.random.key(0), n) for n in range(count)]
    assert weight == replay(1.0, keys) >= 30 > replay(1.0, keys[:-1])


def test_a_stopped_seed_does_nothing(learner):
    state = learner.init(jax.random.key(0))
    after, report = jax.jit(learner.step)(
        state, {"rate": 1.0}, jax.random.key(0), jnp.bool_(False)
    )
    assert after.policy.extras.slot == state.policy.extras.slot
    assert report.env_steps == 0 and report.finite
    assert learner.host.agent.learned == [] and learner.host.slots == {0}


def test_a_score_is_not_played_twice():
    pipeline = Rewards()
    learner = host(Adder(), pipeline)
    policy = learner.init(jax.random.key(0)).policy
    for number in (1, 1, 2, 2):
        learner.evaluate(policy, learner.hyperparams, jax.random.key(number))
    assert len(pipeline.evaluated) == 2


def test_validation_scores_in_place_of_the_pipeline():
    pipeline, validation = Rewards(), Rewards()
    learner = host(Adder(), pipeline, validation=validation)
    learner.evaluate(
        learner.init(jax.random.key(0)).policy, learner.hyperparams, jax.random.key(0)
    )
    assert len(validation.evaluated) == 1 and not pipeline.evaluated


@pytest.mark.parametrize("where", ["reward", "learn"])
def test_what_is_not_finite_changes_nothing(where):
    class Failing(Adder):
        def learn(self, episode_data):
            info = super().learn(episode_data)
            return {"loss": np.inf} if broken and where == "learn" else info

    class Broken(Rewards):
        def collect(self, agent, envs, seed):
            data = super().collect(agent, envs, seed)
            if broken and where == "reward":
                data.rewards[0] = np.nan
            return data

    broken = False
    learner = host(Failing(), Broken(), evaluation_episodes=1)
    key = jax.random.key(0)
    good, _ = learner.step(learner.init(key), {"rate": 1.0}, key, True)
    broken = True
    same, report = learner.step(good, {"rate": 1.0}, key, True)
    assert not report.finite and report.env_steps == 2
    assert report.data_finite == (where == "learn")
    assert same.policy.extras.slot == good.policy.extras.slot
    assert learner.evaluate(same.policy, learner.hyperparams, key) == replay(1.0, [key])
    broken = False
    after, report = learner.step(same, {"rate": 1.0}, key, True)
    assert report.finite
    assert learner.evaluate(after.policy, learner.hyperparams, key) == replay(
        1.0, [key, key]
    )


def test_weights_are_loaded_only_if_the_agent_has_others(learner):
    key = jax.random.key(0)
    state = learner.init(key)
    for _ in range(3):
        state, _ = learner.step(state, {"rate": 1.0}, key, True)
        learner.evaluate(state.policy, learner.hyperparams, key)
    assert learner.host.agent.loads == 0
    learner.evaluate(learner.init(key).policy, learner.hyperparams, key)
    assert learner.host.agent.loads == 1


class InFolder(Adder):
    def save_weights(self, path):
        (Path(path) / "inner").mkdir(parents=True)
        (Path(path) / "inner" / "w.bin").write_bytes(self.weight.tobytes())

    def load_weights(self, path):
        super().load_weights(str(Path(path) / "inner" / "w.bin"))


class WithSuffix(Adder):
    def save_weights(self, path):
        Path(path + ".index").write_text("1")
        Path(path + ".data-0").write_bytes(self.weight.tobytes())

    def load_weights(self, path):
        assert Path(path + ".index").read_text() == "1"
        super().load_weights(path + ".data-0")


@pytest.mark.parametrize("make", [Adder, InFolder, WithSuffix])
def test_checkpoints_go_to_another_process(make):
    """Export, restore into a new learner, go on: as if never interrupted."""
    keys = jax.random.split(jax.random.key(4), 3)
    learner = host(make(), Rewards(), evaluation_episodes=1)
    state = learner.init(keys[0])
    for key in keys[:2]:
        state, _ = learner.step(state, {"rate": 1.0}, key, True)
    weights = learner.host.save(state)
    assert list(weights) == ["agent", "files/2", "masked"]
    assert weights["files/2"].dtype == np.uint8
    again = learner.host.save(state)
    np.testing.assert_array_equal(weights["files/2"], again["files/2"])  # same bytes

    other = host(make(), Rewards(), evaluation_episodes=1)
    other.host.load(weights)
    assert other.host.slots == {0, 2}
    assert other.evaluate(state.policy, other.hyperparams, keys[0]) == replay(
        1.0, keys[:2]
    )
    assert other.evaluate(other.init(keys[0]).policy, other.hyperparams, keys[0]) == 0.0
    state, _ = other.step(state, {"rate": 1.0}, keys[2], True)
    assert state.policy.extras.slot == 3
    assert other.evaluate(state.policy, other.hyperparams, keys[0]) == replay(1.0, keys)


def with_weight(weight):
    agent = Adder()
    agent.weight = np.array([weight])
    return host(agent, Rewards(), evaluation_episodes=1)


def test_a_checkpoint_may_bring_its_own_initial_weights(learner):
    key = jax.random.key(0)
    policy = learner.init(key).policy
    assert learner.evaluate(policy, learner.hyperparams, key) == 0.0
    learner.host.load(with_weight(9.0).host.save(policy))
    assert learner.evaluate(policy, learner.hyperparams, key) == 9.0


def test_restore_never_changes_a_slot(learner):
    key = jax.random.key(0)
    policy = learner.init(key).policy
    state, _ = learner.step(learner.init(key), {"rate": 1.0}, key, True)
    own = learner.host.save([policy, state])
    after, _ = learner.step(state, {"rate": 1.0}, key, True)
    learner.host.keep(after)
    learner.host.load(own)  # one of them is there, the other comes back
    assert learner.host.slots == {0, 1, 2}
    assert learner.evaluate(state.policy, learner.hyperparams, key) == replay(
        1.0, [key]
    )
    assert learner.evaluate(after.policy, learner.hyperparams, key) == replay(
        1.0, [key, key]
    )
    for slot in (0, 1):
        saved = with_weight(9.0).host.save(policy)
        other = {"agent": saved["agent"], f"files/{slot}": saved["files/0"]}
        with pytest.raises(ValueError, match=f"slot {slot} has other weights here"):
            learner.host.load(other)
    assert learner.evaluate(state.policy, learner.hyperparams, key) == replay(
        1.0, [key]
    )


def test_keep_drops_the_rest(learner, tmp_path):
    keys = jax.random.split(jax.random.key(0), 4)
    learner = host(Adder(), Rewards(), evaluation_episodes=1, directory=str(tmp_path))
    states = [learner.init(keys[0])]
    for key in keys:
        states.append(learner.step(states[-1], {"rate": 1.0}, key, True)[0])
    learner.host.keep([states[2], {"best": states[4].policy}])
    assert learner.host.slots == {0, 2, 4}
    assert len([f for f in tmp_path.rglob("*") if f.is_file()]) == 3
    assert learner.evaluate(states[2].policy, learner.hyperparams, keys[0]) == replay(
        1.0, keys[:2]
    )
    with pytest.raises(
        ValueError, match=r"slots \[3\] hold no weights \(of 5 ever made"
    ):
        learner.host.keep([states[3], states[4]])
    assert learner.host.slots == {0, 2, 4}
    with pytest.raises(ValueError, match=r"slots \[1\]"):
        learner.host.save(states[1])
    with pytest.raises(jax.errors.JaxRuntimeError):
        jax.block_until_ready(
            learner.evaluate(states[1].policy, learner.hyperparams, keys[0])
        )
    with pytest.raises(ValueError, match=r"slots \[1\]"):
        learner.host.raise_if_failed()
    # numbers go on
    assert (
        learner.step(states[4], {"rate": 1.0}, keys[0], True)[0].policy.extras.slot == 5
    )


def test_slots_of_a_batched_state(learner):
    states = jax.vmap(learner.init)(jax.random.split(jax.random.key(0), 3))
    assert list(learner.host.save(states)) == ["agent", "files/0"]
    with pytest.raises(ValueError, match="dict names no slot of a host agent"):
        learner.host.save({"learner": jnp.zeros(3)})


class RefusalError(Exception):
    pass


@pytest.mark.parametrize("method", ["learn", "save_weights", "set_hyperparams"])
def test_an_exception_keeps_its_type_and_place(method):
    agent = Adder()
    learner = host(agent, Rewards(), evaluation_episodes=1)
    key = jax.random.key(0)
    state = learner.init(key)
    learner.host.raise_if_failed()  # nothing has failed

    def refuse(*args):
        agent.weight = agent.weight + 99.0  # half done
        raise RefusalError("no")

    setattr(agent, method, refuse)
    with pytest.raises(jax.errors.JaxRuntimeError):
        jax.block_until_ready(jax.jit(learner.step)(state, {"rate": 1.0}, key, True))
    assert type(learner.host.error) is RefusalError
    with pytest.raises(RefusalError, match="no") as caught:
        learner.host.raise_if_failed()
    assert "refuse" in [frame.name for frame in traceback.extract_tb(caught.tb)]
    assert learner.host.error is None
    delattr(agent, method)
    state, _ = jax.jit(learner.step)(state, {"rate": 1.0}, key, True)
    assert learner.evaluate(state.policy, learner.hyperparams, key) == replay(
        1.0, [key]
    )


def test_what_is_no_agent_is_refused():
    class Silent(Adder):
        def save_weights(self, path):
            pass

    class Mute(Adder):
        def learn(self, episode_data):
            return None

    with pytest.raises(
        TypeError, match="agent must derive from .*BaseAgent.* got object"
    ):
        host(object(), Rewards())  # pyright: ignore[reportArgumentType]
    with pytest.raises(FileNotFoundError, match="Silent.save_weights.* wrote nothing"):
        host(Silent(), Rewards())
    with pytest.raises(ValueError, match="evaluation_episodes must be an integer >= 1"):
        host(Adder(), Rewards(), evaluation_episodes=0)
    learner = host(Mute(), Rewards())
    key = jax.random.key(0)
    with pytest.raises(jax.errors.JaxRuntimeError):
        jax.block_until_ready(learner.step(learner.init(key), {"rate": 1.0}, key, True))
    with pytest.raises(
        TypeError, match="learn must return {name: number}, got NoneType"
    ):
        learner.host.raise_if_failed()
