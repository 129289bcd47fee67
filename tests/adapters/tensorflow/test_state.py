"""What an agent is as arrays and as a file: all that learning goes on from."""

import os
import pickle
import random

import numpy as np
import pytest

pytest.importorskip("tensorflow", reason="TensorFlow is not installed")

import h5py
import keras

from optix.host.agent import HyperparamSet
from optix_tensorflow import TFPPOAgent, TFSACAgent
from tests.adapters.acting import play, same
from tests.adapters.tensorflow.windows import AGENTS, linear, make


def go_on(agent, replay):
    if replay is not None:
        agent.memory = agent.make_memory()
        agent.memory.restore(replay)
    window = play(agent, seed=7)
    return agent.learn(window), agent.state(), window.actions


def check_same(one, other):
    assert one[0] == other[0] and same(one[1], other[1])
    np.testing.assert_array_equal(one[2], other[2])


@pytest.mark.parametrize("name", AGENTS)
def test_a_restored_agent_goes_on_bit_for_bit(name, tmp_path):
    agent = make(name)
    form = {key: x.shape for key, x in agent.state().items() if "running" not in key}
    assert any(key.endswith("velocity") for key in form)
    for seed in range(2):
        agent.learn(play(agent, seed=seed, fresh=seed == 0))
    state, replay = agent.state(), agent.memory and agent.memory.state()
    assert form == {k: x.shape for k, x in state.items() if "running" not in k}
    agent.save_weights(str(tmp_path / "weights"))
    copies = {key: x.copy() for key, x in state.items()}
    wanted = go_on(agent, replay)
    assert not same(state, wanted[1])
    assert same(state, copies), "a state is a copy"

    agent.restore(state)
    assert same(agent.state(), state)
    check_same(go_on(agent, replay), wanted)
    other = make(name, seed=1)
    other.load_weights(str(tmp_path / "weights"))
    assert same(other.state(), state)
    check_same(go_on(other, replay), wanted)
    assert same(state, copies), "restoring does not write into what it is given"


@pytest.fixture(scope="module")
def ppo():
    return make("ppo")


class Hostile:
    def __reduce__(self):
        return (pytest.fail, ("a pickle was loaded",))


def written(write):
    def make_file(path):
        with h5py.File(path, "w") as file:
            write(file)

    return make_file


def round_in_a_circle(file):
    group = file.create_group("a")
    group["b"] = group


def from_another_file(file):
    file["actor.0.kernel"] = h5py.ExternalLink("secret.h5", "x")


def from_raw_bytes(file):
    place = [(os.path.abspath(__file__), 0, 16)]
    file.create_dataset("actor.0.kernel", (4,), "f4", external=place)


def of_no_end(file):
    file.create_dataset("actor.0.kernel", (10**6, 10**6, 10**3), "f4", chunks=True)


HOSTILE = {
    "a pickle": lambda path: path.write_bytes(pickle.dumps(Hostile())),
    "nothing": lambda path: path.write_bytes(b""),
    "noise": lambda path: path.write_bytes(b"\xff" * 64),
    "a circle": written(round_in_a_circle),
    "another file": written(from_another_file),
    "the bytes of any file": written(from_raw_bytes),
    "an array without an end": written(of_no_end),
    "text": written(lambda file: file.create_dataset("actor.0.kernel", data="x")),
}


@pytest.mark.parametrize("write", HOSTILE.values(), ids=HOSTILE)
def test_a_hostile_file_is_refused(write, ppo, tmp_path):
    before = ppo.state()
    write(tmp_path / "weights.h5")
    with pytest.raises(
        ValueError, match="must be an HDF5 file that save_weights wrote"
    ):
        ppo.load_weights(str(tmp_path / "weights"))
    assert same(ppo.state(), before)


def test_a_foreign_file_is_refused(ppo, tmp_path):
    before = ppo.state()
    ppo.modules["actor"].save_weights(tmp_path / "keras.weights.h5")
    with pytest.raises(ValueError, match="keras.weights.h5 must be an HDF5 file"):
        ppo.load_weights(str(tmp_path / "keras.weights.h5"))
    others = make("ppo", hidden=(5,)), make("dqn"), make("gaussian")
    for number, other in enumerate(others):
        path = str(tmp_path / str(number))
        other.save_weights(path)
        with pytest.raises(ValueError, match=r"of the state must .* it is of another"):
            ppo.load_weights(path)
    with pytest.raises(FileNotFoundError, match=r"no weights at .*nothing.h5"):
        ppo.load_weights(str(tmp_path / "nothing"))
    assert same(ppo.state(), before)


def test_the_mean_of_weights(tmp_path):
    agents = [make("sac", seed=seed) for seed in (0, 1)]
    paths = [str(tmp_path / str(seed)) for seed in (0, 1)]
    for seed, (agent, path) in enumerate(zip(agents, paths, strict=True)):
        agent.optimizers["actor_optimizer"].iterations.assign(5 + seed)
        agent.save_weights(path)
    states = [agent.state() for agent in agents]
    agents[0].average_weights(paths)
    for name, value in agents[0].state().items():
        if "optimizer" in name or value.dtype.kind != "f":
            np.testing.assert_array_equal(value, states[0][name])
        else:
            mean = (states[0][name].astype(float) + states[1][name]) / 2
            np.testing.assert_allclose(value, mean, rtol=1e-6)
    with pytest.raises(ValueError, match="paths must name at least one file"):
        agents[0].average_weights([])


def test_perturbed_weights_are_multiplied(ppo):
    before = ppo.state()
    ppo.seed(3)
    ppo.perturb_weights(0.1)
    after = ppo.state()
    shares = []
    for name, value in before.items():
        if name.endswith("kernel"):
            shares += list((after[name] / value - 1).ravel())
    assert 0.05 < np.std(shares) < 0.2 and abs(np.mean(shares)) < 0.06
    for wrong in (-1, float("nan"), "x", None):
        with pytest.raises(ValueError, match="noise must be in"):
            ppo.perturb_weights(wrong)
    ppo.reset(5)  # they are not nobody's any more
    assert same(ppo.state(), after)


@pytest.mark.parametrize("name", AGENTS)
def test_seeds_begin_with_weights_of_their_own(name):
    agent = make(name)
    first = agent.state()
    states, draw = [], random.getstate()
    for seed in (1, 2, 1):
        for optimizer in agent.optimizers.values():  # as if another seed had learned
            for variable in optimizer.variables[2:]:
                variable.assign(variable + 1.0)
        agent.reset(seed)
        states.append(agent.state())
    assert random.getstate() == draw
    assert same(states[0], states[2])
    assert not same(states[0], states[1]) and not same(states[0], first)
    for key, value in states[0].items():
        if key.startswith("target"):
            source = key.removeprefix("target_").replace("target.", "q_network.", 1)
            np.testing.assert_array_equal(value, states[0][source])
        if "optimizer" in key:
            np.testing.assert_array_equal(value, first[key])
    agent.learned_from["windows"] += 1
    agent.reset(5)  # what has learned is kept
    assert same(
        {**agent.state(), "learned/windows": 0}, {**states[2], "learned/windows": 0}
    )


def test_weights_of_ones_own_are_not_taken_away(tmp_path):
    own, loaded = TFPPOAgent(linear(4, 3), linear(4, 1)), make("ppo")
    loaded.save_weights(str(tmp_path / "weights"))
    loaded.load_weights(str(tmp_path / "weights"))
    for agent in (own, loaded):
        before = agent.state()
        agent.reset(5)
        assert same(agent.state(), before)


def test_models_of_every_kind_and_any_optimizer():
    """A torso that is shared, a frozen layer, bfloat16, batch norm, dropout."""
    layers = keras.layers
    inputs = keras.Input((4,))
    frozen = layers.Dense(4, trainable=False)
    torso = layers.Dropout(0.5, seed=1)(layers.BatchNormalization()(frozen(inputs)))
    torso = layers.Dense(6, dtype="bfloat16")(torso)
    actor, critic = (
        keras.Model(inputs, layers.Dense(n, dtype="float32")(torso)) for n in (3, 1)
    )
    optimizer = keras.optimizers.SGD(0.1, momentum=0.9)
    agent = TFPPOAgent(actor, critic, optimizer)
    assert len(agent.learned()) == 8  # of the torso once, none of the frozen layer
    assert agent.hyperparams["learning_rate"] == pytest.approx(0.1)
    first, window = agent.state(), play(agent)
    assert same(agent.state(), first), "acting changes nothing"
    told = agent.learn(window)
    after = agent.state()
    changed = {
        k.split(".")[2] for k in first if "." in k and (first[k] != after[k]).any()
    }
    assert {"kernel", "moving_mean", "gamma", "seed_generator_state"} <= changed
    assert (after["actor.0.kernel"] == first["actor.0.kernel"]).all()
    agent.restore(first)
    agent.seed(0)
    assert agent.learn(play(agent)) == told and same(agent.state(), after)


def test_rates_keep_their_ratio():
    kinds = keras.optimizers
    agent = TFSACAgent(
        *(linear(4, 4), linear(6, 1), linear(6, 1)),
        2,
        kinds.Adam(1e-3),
        kinds.RMSprop(3e-3),
        kinds.SGD(5e-4),
        {"learning_starts": 8, "batch_size": 4, "updates_per_step": 0.1},
    )
    assert agent.hyperparams["learning_rate"] == pytest.approx(1e-3)
    agent.set_hyperparams(HyperparamSet({"learning_rate": 1e-2}))
    agent.learn(play(agent))
    rates = [float(o.learning_rate) for o in agent.optimizers.values()]
    np.testing.assert_allclose(rates, [1e-2, 3e-2, 5e-3], rtol=1e-6)
    assert isinstance(agent.optimizers["alpha_optimizer"], kinds.SGD)
