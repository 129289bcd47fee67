"""What an environment gives in a wrong form is told by its name, before a compile."""

from typing import NamedTuple

import gymnasium
import gymnax
import jax.numpy as jnp
import pytest

from optix.envs.device import device
from optix.learners.evaluate import evaluator
from optix.learners.on_policy import on_policy
from optix.make import make_agent
from tests import probes

ENV = device(probes.Probe(), name="Mine")
AGENT = make_agent(ENV, "ppo")


def odd(**results):
    """An environment whose `step_env` gives other values."""

    class Odd(probes.Probe):
        def step_env(self, *args):
            step = dict(
                zip(
                    ("obs", "state", "reward", "terminated", "info"),
                    super().step_env(*args),
                    strict=True,
                )
            )
            return tuple({**step, **results}.values())

    return Odd()


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("reward", jnp.zeros(1), r"reward of Odd must be .* got float32\[1\]"),
        ("reward", None, "reward of Odd must be .* got None"),
        ("reward", 1j, "reward of Odd must be real numbers .* got complex64"),
        ("terminated", None, "terminated of Odd must be .* got None"),
        ("terminated", jnp.zeros(2, bool), r"terminated of Odd must .* got bool\[2\]"),
        ("truncated", jnp.zeros(1, bool), r"truncated of Odd must .* got bool\[1\]"),
        ("obs", jnp.zeros(2), r"the observation of Odd must .* got float32\[2\]"),
        ("obs", {"a": jnp.zeros(1)}, "the observation of Odd must be .* got {"),
        ("obs", "x", "step of Odd failed with TypeError"),
        ("state", probes.State(jnp.zeros(2)), "a step of Odd must keep the structure"),
    ],
)
def test_one_environment_with_a_wrong_result(field, value, message):
    if field == "truncated":
        env = odd()
        env.is_truncated = lambda state, params: value
    else:
        env = odd(**{field: value})
    with pytest.raises(ValueError, match=message):
        device(env)


def test_an_environment_that_fails_is_named():
    class Broken(probes.Probe):
        def reset_env(self, key, params):
            return params.gravity

    with pytest.raises(ValueError, match="reset of Broken failed with AttributeError"):
        device(Broken())


@pytest.mark.parametrize(
    "params", [5, "x", 1.5, True, {}, (), gymnax.make("Pendulum-v1")[1], object()]
)
def test_parameters_of_a_wrong_type(params):
    with pytest.raises(
        ValueError, match="^env_params of CartPole-v1 must be"
    ) as caught:
        device("CartPole-v1", params)
    assert len(str(caught.value)) < 600


def test_parameters_like_the_defaults_will_do():
    class Other(NamedTuple):
        max_steps_in_episode: int = 3
        reward: float = 2.0

    assert device(probes.Probe(), Other()).time_limit == 3


def test_a_gymnasium_environment_is_no_device():
    for env in (gymnasium.make("CartPole-v1"), gymnasium.make_vec("CartPole-v1", 2)):
        with pytest.raises(
            ValueError, match=r"Gymnasium environment CartPole-v1.*hosted\."
        ):
            device(env)


# records that users build


def stepped(**fields):
    """The record with a `step` that gives other fields."""

    def step(key, state, action):
        state, result = ENV.step(key, state, action)
        return state, result._replace(**fields)

    return ENV._replace(step=step)


def played(**fields):
    def play(key, state, action):
        state, result = ENV.play(key, state, action)
        return state, result._replace(**fields)

    return ENV._replace(play=play)


def other_state(key, state, action):
    return state._replace(time=1.5), ENV.step(key, state, action)[1]


RECORDS = {
    "time limit": (ENV._replace(time_limit=-1), "time_limit of Mine must be .* got -1"),
    "no time limit": (ENV._replace(time_limit=None), "time_limit of Mine"),
    "observations": (
        ENV._replace(observation_shape=(3,)),
        r"obs of reset of Mine must be float32 of shape \[2, 3\], got float32\[2, 1\]",
    ),
    "type": (ENV._replace(observation_dtype="real"), "observation_dtype of Mine must"),
    "small type": (
        ENV._replace(kept_dtype="tiny"),
        "kept_dtype of Mine must be a type",
    ),
    "list": (ENV._replace(observation_shape=4), "observation_shape of Mine must be"),
    "actions": (
        ENV._replace(step=ENV.step.__call__, action_space=5),
        "actions of Mine",
    ),
    "reward of a column": (
        stepped(reward=jnp.zeros((2, 1))),
        r"reward of step of Mine must be float32 of shape \[2\], got float32\[2, 1\]",
    ),
    "scalar reward": (
        stepped(reward=1.0),
        r"reward of step of Mine .* got float32\[\]",
    ),
    "reward of integers": (
        stepped(reward=jnp.zeros(2, jnp.int32)),
        r"reward of step of Mine .* got int32\[2\]",
    ),
    "wide": (
        stepped(obs=jnp.zeros((2, 5))),
        r"obs of step of Mine .* got float32\[2, 5\]",
    ),
    "next": (stepped(next_obs=jnp.zeros((2, 5))), "next_obs of step of Mine"),
    "column": (
        stepped(terminated=jnp.zeros((2, 1), bool)),
        r"terminated of step of Mine must be bool of shape \[2\], got bool\[2, 1\]",
    ),
    "played": (played(reward=jnp.zeros((2, 1))), "reward of play of Mine"),
    "cut": (played(truncated=jnp.zeros(2)), r"truncated of play .* got float32\[2\]"),
    "shared": (
        stepped(shared=jnp.zeros(2)),
        r"shared of step of Mine must be bool of shape \[2\], got float32\[2\]",
    ),
    "state": (ENV._replace(step=other_state), "a step of Mine must keep"),
    "no pair": (
        ENV._replace(reset=lambda key, batch: jnp.zeros((2, 1))),
        "must return a pair",
    ),
    "no EnvStep": (
        ENV._replace(play=lambda k, s, a: (s, ())),
        "play of Mine must return",
    ),
    "failing": (
        ENV._replace(step=lambda *args: 1 / 0),
        "step of Mine failed with ZeroDivisionError",
    ),
}


@pytest.mark.parametrize("case", RECORDS)
def test_a_record_that_does_not_keep_to_its_word(case):
    env, message = RECORDS[case]
    with pytest.raises(ValueError, match=message):
        on_policy(AGENT, env, num_envs=2, evaluation_episodes=2)


def test_a_record_that_does():
    on_policy(AGENT, stepped(), num_envs=3)
    evaluator(AGENT, ENV._replace(time_limit=3))


def test_an_environment_may_be_of_one_size():
    def reset(key, batch):
        assert batch == 6
        return ENV.reset(key, batch)

    evaluator(AGENT, ENV._replace(reset=reset), episodes=6)
