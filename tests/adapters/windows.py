"""Torch agents of every kind, tiny."""

import functools

import torch

import optix_torch
from tests.adapters.acting import BOX, DISCRETE, REPLAY, Spaces

AGENTS = {
    name: functools.partial(
        getattr(optix_torch, kind).for_env, Spaces(actions), **options
    )
    for name, kind, actions, options in (
        ("ppo", "TorchPPOAgent", DISCRETE, {"hidden": (4,)}),
        ("gaussian", "TorchGaussianPPOAgent", BOX, {"hidden": (4,)}),
        (
            "recurrent",
            "TorchRecurrentPPOAgent",
            DISCRETE,
            {"hidden": (4,), "cell_size": 3, "sequence_length": 3},
        ),
        ("dqn", "TorchDQNAgent", DISCRETE, {"hidden": (4,), "n_step": 2, **REPLAY}),
        (
            "rainbow",
            "TorchRainbowDQNAgent",
            DISCRETE,
            {"hidden": (4,), "num_atoms": 5, **REPLAY},
        ),
        ("sac", "TorchSACAgent", BOX, {"hidden": (4,), **REPLAY}),
        ("td3", "TorchTD3Agent", BOX, {"hidden": (4,), **REPLAY}),
    )
}


def make(name, seed=0, **options):
    """An agent on the CPU, the same for the same seed."""
    torch.manual_seed(seed)
    return AGENTS[name](device="cpu", **options)
