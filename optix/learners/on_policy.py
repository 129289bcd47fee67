"""Learning from windows of fresh experience, collected on the device."""

import jax

from optix import checks
from optix.learners.collect import collector, own_key, window_report
from optix.learners.evaluate import evaluator
from optix.trees import all_finite
from optix.types import Agent, Environment, Learner, LearnerState
from optix.xla.backend import time_unroll


def on_policy(
    agent: Agent,
    env: Environment,
    *,
    num_envs: int = 64,
    num_steps: int = 128,
    evaluation_episodes: int = 16,
    deterministic_evaluation: bool = True,
) -> Learner:
    """Return a learner that collects a window and learns from it once.

    Args:
      agent: an agent whose `learn` takes a `Trajectory`; on the devices of its
        `axis_name` the experience of all forms one window.
      env: a batch of environments.
      num_envs: environments side by side, on each device.
      num_steps: steps of a window.
      evaluation_episodes: whole episodes per score.
      deterministic_evaluation: score the mode of the policy, not samples.

    Raises:
      ValueError: sizes below one, or an agent whose actions are not the environment's.

    >>> from optix.agents.ppo import ppo
    >>> from optix.envs.device import device
    >>> from optix.networks.mlp import actor_critic
    >>> env = device("CartPole-v1")
    >>> spaces = (env.observation_shape, env.action_space)
    >>> learner = on_policy(ppo(actor_critic(*spaces), *spaces), env)
    >>> state = learner.init(jax.random.key(0))
    >>> score = learner.evaluate(state.policy, learner.hyperparams, jax.random.key(1))
    """
    checks.positive_int("num_envs", num_envs)
    checks.positive_int("num_steps", num_steps)
    checks.record("agent", agent, Agent, "make one by its factory, as in ppo(...)")
    checks.record("env", env, Environment, "make one by optix.envs.device.device(...)")
    checks.positive_int("num_steps * num_envs", num_steps * num_envs)
    checks.positive_int("evaluation_episodes", evaluation_episodes)
    checks.boolean("deterministic_evaluation", deterministic_evaluation)
    agent.check_window(num_steps, num_envs)
    evaluate = evaluator(
        agent,
        env,
        episodes=evaluation_episodes,
        deterministic=deterministic_evaluation,
    )
    axis_name = agent.axis_name
    experience = collector(agent, env, num_envs)

    def begin(policy, key):
        del policy
        return experience.begin(own_key(key, axis_name))

    def init(key):
        policy_key, begin_key = jax.random.split(key)
        policy = agent.init(policy_key)
        return LearnerState(policy, begin(policy, begin_key))

    def collect(policy, rollout, hyperparams, key, active):
        def step(rollout, keys):
            return experience.step(policy, rollout, hyperparams, *keys)

        key = own_key(key, axis_name)
        rollout, _ = experience.claim(rollout, num_steps, active, key)
        keys = jax.random.split(key, (num_steps, 2))
        return jax.lax.scan(step, rollout, keys, unroll=time_unroll())

    def step(state, hyperparams, key, active):
        collect_key, learn_key = jax.random.split(key)
        rollout, trajectory = collect(
            state.policy, state.rollout, hyperparams, collect_key, active
        )
        learned = agent.learn(
            state.policy, trajectory, hyperparams, own_key(learn_key, axis_name)
        )
        report = window_report(
            num_steps * num_envs,
            learned.finite,
            learned.info,
            trajectory,
            rollout.latest_return,
            all_finite((trajectory.obs, trajectory.reward, rollout.obs)),
            axis_name,
        )
        return LearnerState(learned.policy, rollout, state.memory), report

    return Learner(init, begin, step, evaluate, agent.hyperparams, env.host, agent, env)
