"""The files of Keras networks against the networks, at batches 1 and 7."""

from types import SimpleNamespace

import numpy as np
import pytest

pytest.importorskip("tensorflow", reason="TensorFlow is not installed")

import keras
from keras import layers

from optix.checks import OptionError
from optix.host.agent import HyperparamSet
from optix_tensorflow.onnx import export
from tests.adapters.acting import play
from tests.adapters.tensorflow.windows import AGENTS, make
from tests.onnx.parity import BATCHES, TOLERANCE, Played


def sequence(*parts, shape=(3,)):
    return keras.Sequential([keras.Input(shape), *parts])


def branches():
    image = keras.Input((6, 5, 2))
    x = layers.Conv2D(4, 3, strides=2, padding="same", activation="relu")(image)
    x = layers.Flatten()(layers.Conv2D(3, 2)(x))
    parts = [layers.Dense(3, name)(x) for name in ("elu", "selu", "softplus")]
    return keras.Model(image, layers.Dense(4)(layers.Concatenate()(parts)))


NETWORKS = {
    "tanh": lambda: sequence(layers.Dense(4, "tanh"), layers.Dense(4)),
    "nested": lambda: sequence(
        keras.Sequential([layers.Dense(4, "gelu"), layers.Dropout(0.5)]),
        layers.Activation("sigmoid"),
        layers.Dense(4, "silu", use_bias=False),
    ),
    "relu": lambda: sequence(
        layers.Rescaling(0.5, 1.0),
        layers.Reshape((1, 2, 3)),
        layers.Permute((3, 1, 2)),
        layers.Flatten(),
        layers.Dense(4, "relu"),
        shape=(6,),
    ),
    "branches": branches,
}


def drawn(network):
    random = np.random.default_rng(0)
    network.set_weights(
        [random.normal(size=w.shape) * 0.5 for w in network.get_weights()]
    )
    return network


@pytest.mark.parametrize("name", NETWORKS)
def test_outputs_are_those_of_the_network(name, tmp_path):
    network = drawn(NETWORKS[name]())
    export(network, tmp_path / "policy.onnx", "q_values")
    played = Played(tmp_path / "policy.onnx")
    for batch in BATCHES:
        shape = batch, *network.input_shape[1:]
        obs = np.random.default_rng(0).normal(size=shape).astype(np.float32)
        found, values = played(observation=obs), np.asarray(network(obs))
        np.testing.assert_allclose(found["q_values"], values, **TOLERANCE)
        np.testing.assert_array_equal(found["action"], values.argmax(-1))


@pytest.mark.parametrize("head", ["gaussian", "squashed_gaussian", "unit_action"])
def test_a_normaliser_and_the_bounds_are_part_of_the_file(head, tmp_path):
    network = drawn(sequence(layers.Dense(4, "tanh"), layers.Dense(4)))
    mean, scale = np.array([1.0, -2, 0.5]), np.array([0.3, 2.0, 1e3])
    size = 4 if head == "unit_action" else 2
    low, high = -np.arange(1.0, size + 1), np.full(size, np.inf)
    high[0] = 0.4
    bounds = SimpleNamespace(
        low=low,
        high=high,
        centre=low + 1,
        unit=np.full(size, 2.0),
        shape=(size // 2, 2),
    )
    about = {"agent": "TFAgent"}
    limits = {"log_scale_range": (-0.1, 0.1), "bounds": bounds, "about": about}
    export(network, tmp_path / "a.onnx", head, normalizer=(mean, scale), **limits)
    played = Played(tmp_path / "a.onnx")
    assert played.about == about
    for batch in BATCHES:
        obs = np.random.default_rng(0).normal(size=(batch, 3)).astype(np.float32)
        seen = np.clip((obs - mean) * scale, -10, 10).astype(np.float32)
        out, found = np.asarray(network(seen)), played(observation=obs)
        unit = out if head == "unit_action" else out[:, :2]
        if head != "unit_action":
            np.testing.assert_allclose(found["mean"], unit, **TOLERANCE)
            clipped = out[:, 2:].clip(-0.1, 0.1)
            np.testing.assert_allclose(found["log_scale"], clipped, **TOLERANCE)
        unit = np.tanh(unit) if head == "squashed_gaussian" else unit
        action = np.clip(2 * unit + low + 1, low, high).reshape(batch, *bounds.shape)
        np.testing.assert_allclose(found["action"], action, **TOLERANCE)


def shared():
    given, layer = keras.Input((3,)), layers.Dense(3)
    return keras.Model(given, layer(layer(given)))


REFUSED = {
    "unbuilt": (lambda: keras.Sequential([layers.Dense(2)]), "must be a built Keras"),
    "layer": (
        lambda: sequence(layers.LayerNormalization()),
        "got layer_norm.*, a Layer",
    ),
    "activation": (
        lambda: sequence(layers.Dense(2, "exponential")),
        "unknown activation",
    ),
    "shared": (shared, "called once each"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_can_not_be_written_is_named(name, tmp_path):
    make, message = REFUSED[name]
    with pytest.raises(OptionError, match=message):
        export(make(), tmp_path / "policy.onnx", "logits")
    assert not list(tmp_path.iterdir())


def test_wrong_heads(tmp_path):
    with pytest.raises(
        OptionError, match="unknown head 'logit'; did you mean 'logits'"
    ):
        export(NETWORKS["tanh"](), tmp_path / "policy.onnx", "logit")
    with pytest.raises(OptionError, match="means and log scales beside them, got 3"):
        export(sequence(layers.Dense(3)), tmp_path / "policy.onnx", "gaussian")


@pytest.mark.parametrize("kind", AGENTS)
def test_the_file_of_an_agent_plays_as_it_does(kind, tmp_path):
    """Its normaliser, its bounds and its own layers are in the file."""
    agent = make(kind, normalize_observations=True)
    agent.set_hyperparams(HyperparamSet({"learning_rate": 0.1}))
    agent.learn(play(agent, steps=8))
    agent.export_onnx(tmp_path / "policy.onnx")
    played = Played(tmp_path / "policy.onnx")
    assert played.about["agent"] == type(agent).__name__
    for batch in BATCHES:
        obs = np.random.default_rng(batch).normal(size=(batch, *agent.shape))
        obs = obs.astype(np.float32)
        action, _ = agent.act_batch(obs, explore=False)
        found = played(observation=obs)
        np.testing.assert_allclose(found["action"], action, **TOLERANCE)
        if kind == "ppo":
            logits = found["logits"][0].astype(np.float64)
            chance = np.exp(logits - logits.max())
            chance /= chance.sum()
            np.testing.assert_allclose(agent.action_probs(obs[0]), chance, **TOLERANCE)
