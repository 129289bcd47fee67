"""Wrong calls: each must name the rule and the value that broke it."""

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from gymnasium import spaces
from gymnax.environments import spaces as gymnax_spaces

from optix import checks
from optix.agents.dqn import dqn
from optix.agents.ppo import ppo
from optix.agents.sac import sac
from optix.buffers.hindsight import hindsight
from optix.envs.device import device
from optix.learners.evaluate import evaluator
from optix.learners.off_policy import off_policy
from optix.learners.on_policy import on_policy
from optix.loop.loop import loop
from optix.loop.transforms import chain
from optix.make import make, make_agent
from optix.networks.continuous import actor_and_critic
from optix.networks.mlp import actor_critic
from optix.networks.recurrent import recurrent_actor_critic
from optix.networks.values import action_values
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

    def first_obs(self, key):
        return jnp.zeros(2)


PROBE = probes.Probe()
ENV = device(PROBE)
BOX_ENV = device(probes.ActionIsTarget())


def agent(observation_shape=(1,), space=Discrete(2), **options):  # noqa: B008
    network = actor_critic(observation_shape, space, hidden=(4,))
    return ppo(network, observation_shape, space, **options)


def learner(**options):
    return on_policy(agent(), ENV, num_envs=2, num_steps=4, **options)


def stepped(learner):
    key = jax.random.key(0)
    learner.step(learner.init(key), learner.hyperparams, key, True)


def looped(**options):
    return loop(learner(), fixed(), **options)


def first_round(algorithm="ppo", **options):
    run = make(PROBE, algorithm, **options)
    state = jax.eval_shape(run.init, jax.random.key(0))
    return jax.eval_shape(run.step, state)


def init_with(hyperparams):
    return jax.eval_shape(
        lambda key: looped().init(key, hyperparams), jax.random.key(0)
    )


def gymnasium_env(action=spaces.Discrete(2), obs=spaces.Box(-1, 1, (3,))):  # noqa: B008
    class Odd(gymnasium.Env):
        action_space, observation_space = action, obs

    return Odd()


class Keyed(probes.Probe):
    """A gymnax environment with a space that is not its own."""

    def __init__(self, **replaced):
        space = gymnax_spaces.Dict({"a": gymnax_spaces.Discrete(2)})
        for name in replaced:
            setattr(self, f"{name}_space", lambda params: space)


def relabelling(size):
    """Goals of which `substitute` makes observations of a size."""
    return hindsight(
        lambda obs: obs,
        lambda obs, goal: jnp.zeros(size),
        lambda reached, goal: (1.0, True),
    )


def values(actions=2, **options):
    return action_values((1,), Discrete(actions), hidden=(4,), **options)


def both(**options):
    return actor_and_critic((1,), Box((1,)), hidden=(4,), **options)


def claiming(name):
    return Transform(lambda policy: (), None, {name: 1.0})


TABLE = {
    # names
    "environment": (
        lambda: make("CartPole-v2"),
        "unknown environment 'CartPole-v2'; did you mean 'CartPole-v1'",
    ),
    "agent": (lambda: make(PROBE, "poo"), "unknown agent 'poo'; did you mean 'ppo'"),
    "not an agent's name": (
        lambda: make(PROBE, 5),
        "unknown agent 5.*known: dqn, impala, ppo",
    ),
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
    "more actions than there are": (
        lambda: on_policy(agent(space=Discrete(3)), ENV),
        r"those of Probe, Discrete\(n=2\), got 3 logits for one",
    ),
    "observations of another shape": (
        lambda: on_policy(agent((3,)), ENV),
        r"observations of Probe, of shape \(1,\)",
    ),
    "a network for other actions than the agent": (
        lambda: on_policy(
            ppo(actor_critic((1,), Box((1,))), (1,), Discrete(2)), device(PROBE)
        ),
        r"network of ppo must give \(logits of 2 actions, one value\).*gave \(\(\(1,\)",
    ),
    "a recurrent network": (
        lambda: make(
            PROBE,
            "ppo",
            network=Network(None, lambda batch: jnp.zeros((batch, 4)), None),
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
        lambda: make(
            PROBE, validation=PROBE, score=lambda policy, hyperparams, key: 0.0
        ),
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
    # replay
    "a replay smaller than a batch": (
        lambda: make(PROBE, "dqn", capacity=64, batch_size=128),
        "batch_size must be at most the capacity 64, got 128",
    ),
    "more steps than the replay holds": (
        lambda: make(PROBE, "dqn", capacity=20, batch_size=8, num_envs=8, n_step=3),
        r"capacity must be at least n_step \* num_envs \* lanes = 24, got 20",
    ),
    "no steps of a return": (lambda: make(PROBE, "dqn", n_step=0), "n_step.*got 0"),
    "a replay beyond int32": (
        lambda: make(PROBE, "rainbow", capacity=2**31),
        "capacity must be at most 2147483647, got 2147483648",
    ),
    "a capacity of 1e6": (
        lambda: make(PROBE, "dqn", capacity=1e6),
        "capacity must be an integer >= 1, got 1000000.0",
    ),
    "steps between updates that do not divide": (
        lambda: make(PROBE, "dqn", num_steps=10, collect_steps=3),
        "divisible by collect_steps=3, got 10",
    ),
    "priorities of a uniform replay": (
        lambda: make(PROBE, "dqn", priority_exponent=0.5),
        "unknown option of off_policy 'priority_exponent'",
    ),
    "a number as replay": (
        lambda: make(PROBE, "dqn", buffer=5),
        "buffer must be a Buffer, got 5; use uniform",
    ),
    "a strategy as hindsight": (
        lambda: make(PROBE, "dqn", hindsight="future"),
        "hindsight must be a function.*got 'future'; make it by",
    ),
    "goals of another shape": (
        lambda: first_round("dqn", hindsight=relabelling((2,))),
        r"substitute must return.*float32\[1\], got float32\[2\]",
    ),
    "more goals than the replay holds": (
        lambda: first_round("dqn", hindsight=relabelling((1,)), capacity=1000),
        "at most capacity = 1000 rows.*got 8192; use a larger buffer",
    ),
    # agents that learn from a replay
    "a support whose bounds are reversed": (
        lambda: make(PROBE, "rainbow", value_min=5.0, value_max=-5.0),
        "value_min must be below value_max=-5.0, got 5.0",
    ),
    "one atom": (lambda: make(PROBE, "rainbow", num_atoms=1), "num_atoms.*>= 2, got 1"),
    "values where distributions are wanted": (
        lambda: make(PROBE, "rainbow", network=values()),
        r"network of rainbow must give logits.*num_atoms=51.*gave \(2,\)",
    ),
    "distributions where values are wanted": (
        lambda: make(PROBE, "dqn", network=values(num_atoms=5)),
        r"network of dqn must give a value of each of 2 actions.*gave \(2, 5\)",
    ),
    "values of other actions": (
        lambda: dqn(values(3), (1,), Discrete(2)),
        r"a value of each of 2 actions.*gave \(3,\)",
    ),
    "a network of other observations": (
        lambda: dqn(values(), (5,), Discrete(2)),
        r"network of dqn must take rows of shape \(5,\), but it failed",
    ),
    "sac where actions are discrete": (
        lambda: make(PROBE, "sac"),
        r"sac takes Box actions, but Probe has Discrete\(n=2\); ppo.*would work",
    ),
    "dqn where they are a box": (
        lambda: make(BOX_ENV, "dqn"),
        "dqn takes Discrete actions, but ActionIsTarget.*sac, td3 would work",
    ),
    "sac on a discrete space": (
        lambda: sac(both(), (1,), Discrete(2)),
        "action_space must be a Box, got Discrete.*use dqn, rainbow or ppo",
    ),
    "dqn on a box": (
        lambda: dqn(values(), (1,), Box((1,))),
        "action_space of dqn must be a Discrete, got Box.*use sac or td3",
    ),
    "td3's networks for sac": (
        lambda: make(BOX_ENV, "sac", network=both(stochastic=False)),
        r"actor of sac must give \(mean, log_scale\) of 1 actions",
    ),
    "sac's networks for td3": (
        lambda: make(BOX_ENV, "td3", stochastic=True),
        "actor of td3 must give a mean of 1 actions",
    ),
    "one network for sac": (
        lambda: make(BOX_ENV, "sac", network=values()),
        "networks of sac must be a ActorAndCritic.*use actor_and_critic",
    ),
    "a temperature of zero": (
        lambda: make(BOX_ENV, "sac", initial_temperature=0.0),
        "initial_temperature must be in .*got 0.0",
    ),
    "no delay": (lambda: make(BOX_ENV, "td3", policy_delay=0), "policy_delay.*got 0"),
    "an optimizer that is made already": (
        lambda: make(PROBE, "dqn", optimizer=optax.adam(1e-3)),
        "optimizer must be a function that makes a transformation",
    ),
    "an agent of other observations": (
        lambda: off_policy(make_agent("CartPole-v1", "dqn"), ENV),
        r"observations of Probe, of shape \(1,\)",
    ),
    "an agent of windows in the learner with a replay": (
        lambda: stepped(off_policy(agent(), ENV, capacity=256)),
        "learns from a Trajectory, got a Sample; give the agent to .*on_policy",
    ),
    "an agent of replays in the learner of windows": (
        lambda: stepped(on_policy(make_agent(ENV, "dqn"), ENV)),
        "learns from a Sample, got a Trajectory; give the agent to .*off_policy",
    ),
    # spaces of make_agent
    **{
        f"Gymnasium observations: {space}": (
            lambda space=space: make_agent(gymnasium_env(obs=space)),
            "observations of Odd must be a Box, Discrete, .* of these, got .*make one",
        )
        for space in (spaces.Text(3), spaces.Sequence(spaces.Discrete(2)))
    },
    **{
        f"Gymnasium actions: {space}": (
            lambda space=space: make_agent(gymnasium_env(space)),
            "actions of Odd must be Discrete, MultiDiscrete or a Box.*ActionWrapper",
        )
        for space in (
            spaces.Dict({"a": spaces.Discrete(2)}),
            spaces.Tuple([spaces.Discrete(2)]),
        )
    },
    "gymnax observations": (
        lambda: make_agent(Keyed(observation=True)),
        "the observation of Keyed must have the part .*'a'. of its space",
    ),
    "gymnax actions": (
        lambda: make_agent(Keyed(action=True)),
        "actions of Keyed must be Discrete, MultiDiscrete or a Box of .*Dict.*number",
    ),
    "deterministic where actions are discrete": (
        lambda: make_agent(PROBE, deterministic=True),
        "deterministic=True needs a Box of actions, but Probe has Discrete",
    ),
    "deterministic sac": (
        lambda: make_agent(BOX_ENV, "sac", deterministic=True),
        "deterministic=True means td3, got algorithm 'sac'",
    ),
    # shapes
    **{
        f"{name}: a number for a shape": (
            lambda call=call: call(4),
            r"observation_shape must be a tuple of sizes, like \(4,\), got 4",
        )
        for name, call in {
            "actor_critic": lambda shape: actor_critic(shape, Discrete(2)),
            "action_values": lambda shape: action_values(shape, Discrete(2)),
            "actor_and_critic": lambda shape: actor_and_critic(shape, Box((1,))),
            "recurrent": lambda shape: recurrent_actor_critic(shape, Discrete(2)),
            "dqn": lambda shape: dqn(
                action_values((4,), Discrete(2)), shape, Discrete(2)
            ),
            "sac": lambda shape: sac(
                actor_and_critic((4,), Box((1,))), shape, Box((1,))
            ),
            "ppo": lambda shape: ppo(
                actor_critic((4,), Discrete(2)), shape, Discrete(2)
            ),
        }.items()
    },
    "a shape of no size": (
        lambda: actor_critic((0,), Discrete(2)),
        "a size of observation_shape must be an integer >= 1, got 0",
    ),
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
        lambda: make(PROBE, "dqn", capacity=24, batch_size=24, num_envs=8, n_step=3),
        lambda: make_agent(gymnasium_env(spaces.Box(-1, 1, (2, 2)))),
        lambda: make_agent(gymnasium_env(spaces.Box(-INF, INF, (2,)))),
    ],
)
def test_the_border_of_what_is_right(call):
    call()
