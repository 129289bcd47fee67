"""Wrong calls: each must name the rule and the value that broke it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from optix import checks
from optix.agents.ppo import ppo
from optix.envs.device import device
from optix.learners.evaluate import evaluator
from optix.learners.on_policy import on_policy
from optix.loop.loop import loop
from optix.loop.transforms import chain
from optix.make import make
from optix.networks.mlp import actor_critic
from optix.tuners.fixed import fixed
from optix.tuners.space import space
from optix.tuners.spsa import spsa
from optix.types import Box, Discrete, Network, Transform
from tests import probes

NAN, INF = float("nan"), float("inf")


class Pixels(probes.Probe):
    def observation_space(self, params):
        space = super().observation_space(params)
        space.shape = (2,)
        return space


PROBE = probes.Probe()
ENV = device(PROBE)
BOX_ENV = device(probes.ActionIsTarget())


def agent(observation_shape=(1,), space=Discrete(2), **options):  # noqa: B008
    network = actor_critic(observation_shape, space, hidden=(4,))
    return ppo(network, observation_shape, space, **options)


def learner(**options):
    return on_policy(agent(), ENV, num_envs=2, num_steps=2, **options)


def looped(**options):
    return loop(learner(), fixed(), **options)


def first_round(**options):
    run = make(PROBE, **options)
    state = jax.eval_shape(run.init, jax.random.key(0))
    return jax.eval_shape(run.step, state)


def init_with(hyperparams):
    return jax.eval_shape(
        lambda key: looped().init(key, hyperparams), jax.random.key(0)
    )


def claiming(name):
    return Transform(lambda policy: (), None, {name: 1.0})


TABLE = {
    # names
    "environment": (
        lambda: make("CartPole-v2"),
        "unknown environment 'CartPole-v2'; did you mean 'CartPole-v1'",
    ),
    "agent": (lambda: make(PROBE, "poo"), "unknown agent 'poo'; did you mean 'ppo'"),
    "not an agent's name": (lambda: make(PROBE, 5), "unknown agent 5.*known: dqn, ppo"),
    "option": (
        lambda: make(PROBE, num_env=4),
        "unknown option 'num_env'; did you mean 'num_envs'",
    ),
    "hyperparameter": (
        lambda: make(PROBE, learning_rte=0.1),
        "unknown option 'learning_rte'; did you mean 'learning_rate'",
    ),
    "tuner": (lambda: make(PROBE, tuner="spso"), "tuner 'spso'; did you mean 'spsa'"),
    "activation": (
        lambda: make(PROBE, activation="rely"),
        "activation 'rely'; did you mean 'relu'",
    ),
    "the network's option beside a network": (
        lambda: make(PROBE, network=actor_critic((1,), Discrete(2)), hidden=(8,)),
        "unknown option 'hidden'",
    ),
    "override": (
        lambda: init_with({"discont": 0.9}),
        "hyperparameter 'discont'; did you mean 'discount'",
    ),
    "tuned hyperparameter": (
        lambda: loop(learner(), spsa({"clip_rato": (0.1, 0.3)})),
        "tuned hyperparameter 'clip_rato'; did you mean 'clip_ratio'",
    ),
    "target_kl that is off is no hyperparameter": (
        lambda: make(PROBE, tuner=spsa({"target_kl": (0.01, 0.1)})),
        "tuned hyperparameter 'target_kl'",
    ),
    "claimed twice": (
        lambda: chain(claiming("grow/rate"), claiming("grow/rate")),
        "belong to one transform.*'grow/rate'",
    ),
    # sizes
    "no environments": (lambda: make(PROBE, num_envs=0), "num_envs .*>= 1, got 0"),
    "negative steps": (lambda: make(PROBE, num_steps=-8), "num_steps.*got -8"),
    "a size of True": (lambda: make(PROBE, num_envs=True), "num_envs.*got True"),
    "a size of 8.0": (lambda: make(PROBE, num_steps=8.0), "num_steps.*got 8.0"),
    "a size in a string": (lambda: make(PROBE, num_envs="8"), "num_envs.*got '8'"),
    "no episodes": (
        lambda: make(PROBE, evaluation_episodes=0),
        "evaluation_episodes must be an integer >= 1, got 0",
    ),
    "no episodes of an evaluator": (
        lambda: evaluator(agent(), ENV, episodes=0),
        "^episodes must be an integer >= 1, got 0",
    ),
    "no width": (lambda: make(PROBE, hidden=[8, 0]), "hidden width.*got 0"),
    "a width, not widths": (lambda: make(PROBE, hidden=8), "hidden.*got 8"),
    "no windows": (lambda: looped(windows_per_round=0), "windows_per_round.*got 0"),
    "no final scores": (lambda: looped(final_scores=0), "final_scores.*got 0"),
    "no patience": (lambda: looped(plateau_threshold=0), "plateau_threshold.*got 0"),
    "negative rounds": (
        lambda: looped(min_rounds_before_dormant=-1),
        "min_rounds_before_dormant must be an integer >= 0, got -1",
    ),
    "minibatches that do not divide": (
        lambda: first_round(num_envs=3, num_steps=5, num_minibatches=4),
        "divisible by num_minibatches=4, got 15",
    ),
    # floats
    "a large discount": (lambda: make(PROBE, discount=1.5), r"\[0, 1\], got 1.5"),
    "a NaN": (lambda: make(PROBE, gae_lambda=NAN), r"gae_lambda .*\[0, 1\], got nan"),
    "a negative rate": (lambda: make(PROBE, learning_rate=-1), "learning_rate.*got -1"),
    "a rate of True": (lambda: make(PROBE, learning_rate=True), "got True"),
    "a rate in a string": (lambda: make(PROBE, learning_rate="1e-3"), "got '1e-3'"),
    "an infinite norm": (lambda: make(PROBE, max_grad_norm=INF), "got inf"),
    "no limit of divergence": (lambda: make(PROBE, target_kl=-0.1), "target_kl.*-0.1"),
    "a target of NaN": (lambda: looped(target_score=NAN), "target_score.*got nan"),
    "a target in words": (lambda: looped(target_score="500"), "target_score.*'500'"),
    # budgets
    "no rounds": (lambda: looped(max_rounds=0), "max_rounds.*>= 1, got 0"),
    "too many rounds": (
        lambda: looped(max_rounds=2**31),
        "max_rounds must be at most 2147483647, got 2147483648",
    ),
    "too many steps": (
        lambda: looped(max_env_steps=10**10),
        "max_env_steps must be at most 2147483647, got 10000000000",
    ),
    "half a step": (lambda: looped(max_env_steps=0.5), "max_env_steps.*got 0.5"),
    # tuners
    "reversed bounds": (
        lambda: spsa({"learning_rate": (1e-2, 1e-4)}),
        r"'learning_rate' must be finite with low < high, got \(0.01, 0.0001\)",
    ),
    "bounds of NaN": (lambda: spsa({"x": (0.0, NAN)}), "bounds of 'x'.*nan"),
    "not a pair": (lambda: spsa({"x": 3}), "bounds of 'x' must be a pair.*got 3"),
    "no bounds": (lambda: spsa({}), "at least one hyperparameter, got {}"),
    "the logarithm of zero": (
        lambda: space({"x": (0.0, 1.0)}, log=["x"]),
        r"'x' must be positive to be logarithmic, got \(0.0, 1.0\)",
    ),
    "three lanes": (
        lambda: spsa({"x": (0, 1)}, lanes=3),
        "lanes must be 1 or 2, got 3",
    ),
    "no probe": (lambda: spsa({"x": (0, 1)}, probe=0.0), "probe must be in .*got 0.0"),
    # parts that do not fit together
    "discrete actions in a box": (
        lambda: on_policy(agent(), BOX_ENV),
        r"actions must be those of ActionIsTarget, Box\(shape=\(1,\)\), got int32\[\]",
    ),
    "a box of actions where they are discrete": (
        lambda: on_policy(agent(space=Box((1,))), ENV),
        r"actions must be those of Probe, Discrete\(n=2\), got float32\[1\]",
    ),
    "too many actions": (
        lambda: on_policy(agent(space=Box((2,))), BOX_ENV),
        r"those of ActionIsTarget.*got float32\[2\]",
    ),
    "observations of another shape": (
        lambda: on_policy(agent((3,)), ENV),
        r"observations of Probe, of shape \(1,\)",
    ),
    "a network for other actions than the agent": (
        lambda: on_policy(
            ppo(actor_critic((1,), Box((1,))), (1,), Discrete(2)), device(PROBE)
        ),
        r"those of Probe, Discrete\(n=2\), got int32\[1\]",
    ),
    "a recurrent network": (
        lambda: make(
            PROBE, network=Network(None, lambda batch: jnp.zeros((batch, 4)), None)
        ),
        "feed-forward network.*carry",
    ),
    "matrices as actions": (
        lambda: actor_critic((1,), Box((2, 2))),
        r"one-dimensional, got shape \(2, 2\)",
    ),
    "a validation of other actions": (
        lambda: make(PROBE, validation=probes.ActionIsTarget()),
        "validation environment ActionIsTarget must have the spaces of Probe.*Box",
    ),
    "a validation of other observations": (
        lambda: make(PROBE, validation=Pixels()),
        r"validation environment Pixels must have the spaces of Probe.*\(2,\)",
    ),
    "validation and score": (
        lambda: make(PROBE, validation=PROBE, score=lambda policy, key: 0.0),
        "validation= or score=, not both",
    ),
    "parameters beside an Environment": (
        lambda: make(ENV, env_params=probes.Params()),
        "env_params.*Environment Probe",
    ),
    "no environment": (lambda: make(None), "NoneType must have .*step_env"),
    "an environment's class": (lambda: make(probes.Probe), "instance.*Probe"),
    "a factory as tuner": (lambda: loop(learner(), fixed), "tuner must be a Tuner"),
    "a list of transforms": (
        lambda: looped(transforms=[claiming("x")]),
        r"transforms must be a Transform, got \[.*chain",
    ),
    "an agent as learner": (
        lambda: loop(agent(), fixed()),
        "learner must be a Learner",
    ),
    "a score that is none": (lambda: looped(score=3.0), "score must be .*got 3.0"),
    # the checks themselves
    "positive_int": (lambda: checks.positive_int("n", np.float32(1)), "n must be an"),
    "within": (
        lambda: checks.within("x", 0.0, 0.0, 1.0, open_ends=True),
        r"x must be in \(0, 1\), got 0.0",
    ),
    "known_names": (lambda: checks.known_names("a", ["zzz"], []), "'zzz' .known: none"),
    "bounds": (lambda: checks.bounds({"x": (1, 1)}), r"low < high, got \(1, 1\)"),
}


@pytest.mark.parametrize("name", TABLE)
def test_a_wrong_call_says_what_is_wrong(name):
    call, message = TABLE[name]
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize(
    "call",
    [
        lambda: looped(max_rounds=2**31 - 1, max_env_steps=np.int64(2**31 - 1)),
        lambda: looped(target_score=-3, transforms=chain()),
        lambda: looped(target_score=np.float32(2.5)),
        lambda: agent(discount=1, gae_lambda=0, clip_ratio=np.float32(0.1)),
        lambda: agent(num_epochs=np.int32(2), target_kl=0.02),
        lambda: spsa({"learning_rate": (1e-4, 1e-2)}, step_size=jnp.float32(0.1)),
        lambda: make(probes.ActionIsTarget(), "ppo", state_dependent_scale=True),
    ],
)
def test_the_border_of_what_is_right(call):
    call()
