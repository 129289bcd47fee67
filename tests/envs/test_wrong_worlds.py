"""Environments that can not be what was asked for: one error, before any run is made."""

import jax.numpy as jnp
import numpy as np
import pytest
from gymnasium import spaces

from optix.envs.device import device
from optix.envs.environment import environment
from optix.envs.families.table import FAMILIES, is_installed
from optix.make import make
from tests import probes
from tests.probes import Probe

INF = float("inf")


def spaced(observations=None, actions=None):
    """A probe with other spaces."""

    class Spaced(Probe):
        def observation_space(self, params):
            return observations or super().observation_space(params)

        def action_space(self, params):
            return actions or super().action_space(params)

    return Spaced()


def masked(mask, actions=None):
    """A probe with a mask."""
    env = spaced(actions=actions)
    env.action_mask = mask
    return env


def limited(limit):
    """A probe with another time limit."""
    return lambda: make(Probe(), env_params=probes.Params(limit))


def without(part):
    """A probe that lacks a part of the protocol."""
    parts = {name: getattr(Probe(), name) for name in dir(Probe) if name[0] != "_"}
    kept = {name: value for name, value in parts.items() if name != part}
    return type("Part", (), {k: staticmethod(v) for k, v in kept.items()})()


def wrapped_brax():
    from brax import envs

    return envs.create("inverted_pendulum")


def wrapped_jumanji():
    import jumanji
    from jumanji.wrappers import AutoResetWrapper

    return AutoResetWrapper(jumanji.make("Snake-v1"))


def instance(family):
    """A small environment of a family."""
    if family == "navix":
        import navix

        return navix.make("Navix-Empty-5x5-v0")
    import jumanji

    return jumanji.make("Snake-v1")


GOOD = {
    "craftax": "craftax:Craftax-Classic-Symbolic-v1",
    "brax": "brax:inverted_pendulum",
    "jumanji": "jumanji:Snake-v1",
    "navix": "navix:Navix-Empty-5x5-v0",
    "xminigrid": "xminigrid:MiniGrid-Empty-5x5",
    "playground": "playground:CartpoleBalance",
}

# what is asked for, what the error says, and which family must be installed for it
CASES = {
    # names
    "a function that makes no environment": (
        lambda: make(lambda: spaces.Discrete(2)),
        "must make a gymnasium.Env, got a Discrete",
    ),
    "no name": (lambda: make(""), "unknown environment ''"),
    "a name with a typing error": (
        lambda: make("Acrobot-v2"),
        "unknown environment 'Acrobot-v2'; did you mean 'Acrobot-v1'",
    ),
    "a family with a typing error": (
        lambda: make("navx:Navix-Empty-5x5-v0"),
        "did you mean the family 'navix'",
    ),
    "a family with another typing error": (
        lambda: make("jumanij:Snake-v1"),
        "did you mean the family 'jumanji'",
    ),
    "a name of Jumanji's with a typing error": (
        lambda: make("jumanji:Snak-v1"),
        "did you mean 'jumanji:Snake-v1'",
        "jumanji",
    ),
    "an unknown family": (
        lambda: make("atarax:Pong-v5"),
        "unknown environment 'atarax:Pong-v5'; no package 'atarax' .families: craftax",
    ),
    "a family without a name": (lambda: make("navix:"), "unknown .*'navix:'", "navix"),
    "another family's name": (
        lambda: make("navix:Snake-v1"),
        r"unknown environment 'navix:Snake-v1'.* \(`optix envs navix:` lists them\)",
        "navix",
    ),
    "a name of Craftax's with a typing error": (
        lambda: make("craftax:Craftax-Symbolic-v2"),
        "did you mean 'craftax:Craftax-Symbolic-v1'",
        "craftax",
    ),
    "a name of XLand-MiniGrid's with a typing error": (
        lambda: make("xminigrid:MiniGrid-Emty-5x5"),
        "did you mean 'xminigrid:MiniGrid-Empty-5x5'",
        "xminigrid",
    ),
    "a name of Brax's with a typing error": (
        lambda: make("brax:humanoidd"),
        "did you mean 'brax:humanoid'",
        "brax",
    ),
    "a class": (lambda: make(Probe), "must be an instance, got the class Probe"),
    "a number": (lambda: make(3), "must have observation_space"),
    "a part missing": (lambda: make(without("step_env")), "lacks step_env"),
    # parameters
    "parameters of another environment": (
        lambda: make("CartPole-v1", env_params=probes.Params()),
        "env_params of CartPole-v1 must be EnvParams",
    ),
    "parameters as a dictionary where there are fields": (
        lambda: make("CartPole-v1", env_params={"gravity": 3.0}),
        "env_params of CartPole-v1 must be like its default_params",
    ),
    "parameters beside an instance": (
        lambda: make(instance("navix"), env_params={"max_steps": 3}),
        "env_params are for a name",
        "navix",
    ),
    "parameters beside an instance of Jumanji's": (
        lambda: make(instance("jumanji"), env_params={"num_rows": 3}),
        "env_params are for a name",
        "jumanji",
    ),
    "a wrapper of Brax's": (
        lambda: make(wrapped_brax()),
        "env must be an environment of Brax itself",
        "brax",
    ),
    "steps of MuJoCo Warp": (
        lambda: make(GOOD["playground"], env_params={"impl": "warp"}),
        "impl of playground:CartpoleBalance must be 'jax', got 'warp'",
        "playground",
    ),
    "a wrapper of Jumanji's": (
        lambda: make(wrapped_jumanji()),
        "env must be one environment of Jumanji",
        "jumanji",
    ),
    # time limits
    "no time limit": (limited(None), "max_steps_in_episode >= 1.* got None"),
    "a time limit of 0": (limited(0), "max_steps_in_episode >= 1.* got 0"),
    "an infinite time limit": (limited(INF), "max_steps_in_episode >= 1.* got inf"),
    "a time limit of True": (limited(True), "max_steps_in_episode >= 1.* got True"),
    "no steps in Craftax": (
        lambda: make(GOOD["craftax"], env_params={"max_timesteps": 0}),
        "time limit of craftax:.* must be an integer >= 1, got 0",
        "craftax",
    ),
    "half a step in Jumanji": (
        lambda: make(GOOD["jumanji"], env_params={"max_steps": 2.5}),
        "time limit of jumanji:Snake-v1.* must be an integer >= 1, got 2.5",
        "jumanji",
    ),
    "no time limit in XLand-MiniGrid": (
        lambda: make(GOOD["xminigrid"], env_params={"max_steps": None}),
        "time limit of xminigrid:.* must be an integer >= 1, got None",
        "xminigrid",
    ),
    # spaces
    "words observed": (
        lambda: make(spaced(observations=spaces.Text(3))),
        "observations of Spaced must be",
    ),
    "a graph observed": (
        lambda: make(spaced(observations=spaces.Graph(spaces.Discrete(2), None))),
        "observations of Spaced must be",
    ),
    "nothing observed": (
        lambda: make(spaced(observations=spaces.Box(0, 1, (0,)))),
        "observations of Spaced must have at least one entry",
    ),
    "words as actions": (
        lambda: make(spaced(actions=spaces.Text(3))),
        "actions of Spaced must be",
    ),
    "a sequence of actions": (
        lambda: make(spaced(actions=spaces.Sequence(spaces.Discrete(2)))),
        "actions of Spaced must be",
    ),
    "no actions": (
        lambda: make(spaced(actions=spaces.Box(0, 1, (0,)))),
        "actions of Spaced must have at least one entry",
    ),
    "actions without numbers": (
        lambda: make(spaced(actions=spaces.Box(0, 1, (2,), np.bool_))),
        "actions of Spaced must be",
    ),
    # masks
    "a mask that allows nothing": (
        lambda: make(masked(lambda state, params: jnp.zeros(2, bool))),
        "mask of Spaced must allow one action or more at a first state",
    ),
    "a mask that leaves a choice of several nothing": (
        lambda: make(
            masked(
                lambda state, params: jnp.arange(5) < 3, spaces.MultiDiscrete([3, 2])
            )
        ),
        "mask of Spaced must allow one action or more at a first state, of each of",
    ),
    "a mask for other actions": (
        lambda: make(masked(lambda state, params: jnp.ones(3, bool))),
        r"the action mask of Spaced must be bool of shape \[2\], got bool\[3\]",
    ),
    "a mask of floats": (
        lambda: make(masked(lambda state, params: jnp.ones(2))),
        r"the action mask of Spaced must be bool .* got float32\[2\]",
    ),
    "a mask that fails": (
        lambda: make(masked(lambda state, params: state.nothing)),
        "action_mask of Spaced failed with AttributeError",
    ),
    "a mask that is no function": (
        lambda: make(masked(jnp.ones(2, bool))),
        "action_mask of Spaced must be a function",
    ),
    "a mask of a box": (
        lambda: make(
            masked(lambda state, params: jnp.ones(2, bool), spaces.Box(-1, 1, (2,)))
        ),
        "an action mask needs Discrete",
    ),
    # resets, agents and places
    "another word for resets": (
        lambda: make(Probe(), resets="pooled"),
        "unknown resets 'pooled'",
    ),
    "resets of what is made": (
        lambda: make(device(Probe()), resets="all"),
        "resets are chosen for environments that are made here",
    ),
    "processes for what runs on the device": (
        lambda: make("CartPole-v1", async_envs=True),
        "async_envs is for environments of Gymnasium",
    ),
    "an agent for other actions": (
        lambda: make(GOOD["jumanji"], "sac"),
        "sac takes Box actions, but jumanji:Snake-v1 has",
        "jumanji",
    ),
    "a validation of other spaces": (
        lambda: make(GOOD["navix"], validation="CartPole-v1"),
        "validation environment CartPole-v1 must have the spaces of navix:",
        "navix",
    ),
    "a validation without masks": (
        lambda: make(GOOD["jumanji"], validation="CartPole-v1"),
        "validation environment CartPole-v1 must have action masks where jumanji:",
        "jumanji",
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_what_can_not_be_is_told(case):
    asked, message, *family = CASES[case]
    for name in family:
        if not is_installed(name):
            pytest.skip(f"{name} is not installed")
    with pytest.raises(ValueError, match=message) as raised:
        asked()
    assert "\n" not in str(raised.value)  # one line


@pytest.mark.parametrize("family", FAMILIES)
def test_a_family_that_is_not_installed_says_how_it_is(family, monkeypatch):
    monkeypatch.setitem(FAMILIES, family, "no_such_package")
    with pytest.raises(ValueError) as raised:
        make(GOOD[family])
    assert str(raised.value).endswith(
        f"{family} is not installed; pip install 'tensor-optix-jax[{family}]'"
    )


@pytest.mark.parametrize("family", GOOD)
@pytest.mark.parametrize("params", [3, {"no_such_parameter": 1}], ids=str)
def test_parameters_that_are_not_of_the_family(family, params):
    if not is_installed(family):
        pytest.skip(f"{family} is not installed")
    with pytest.raises(ValueError, match="parameter|env_params") as raised:
        environment(GOOD[family], params)
    assert GOOD[family] in str(raised.value)
