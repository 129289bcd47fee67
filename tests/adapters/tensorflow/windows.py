"""TensorFlow agents of every kind, tiny."""

import functools

import pytest

pytest.importorskip("tensorflow", reason="TensorFlow is not installed")

import keras

import optix_tensorflow
from tests.adapters.acting import BOX, DISCRETE, REPLAY, Spaces

AGENTS = {
    name: functools.partial(
        getattr(optix_tensorflow, kind).for_env,
        Spaces(actions),
        hidden=(4,),
        **options,
    )
    for name, kind, actions, options in (
        ("ppo", "TFPPOAgent", DISCRETE, {}),
        ("gaussian", "TFGaussianPPOAgent", BOX, {}),
        ("dqn", "TFDQNAgent", DISCRETE, {"n_step": 2, **REPLAY}),
        ("sac", "TFSACAgent", BOX, REPLAY),
        ("td3", "TFTDDAgent", BOX, REPLAY),
    )
}


def make(name, seed=0, **options):
    """An agent, the same for the same seed."""
    keras.utils.set_random_seed(seed)
    return AGENTS[name](**options)


def linear(inputs, outputs):
    """A model of one layer."""
    return keras.Sequential([keras.Input((inputs,)), keras.layers.Dense(outputs)])
