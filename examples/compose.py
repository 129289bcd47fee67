"""The parts alone, in a loop of one's own: a PPO update and a test for convergence.

Nothing here uses `optix.make` or the autonomous loop: the agent and the statistics are
pure functions that any research code can call.
"""

import sys

import jax
import jax.numpy as jnp

from optix.agents.ppo import ppo
from optix.envs.device import device
from optix.loop.convergence import assess, initial_history, push
from optix.networks.mlp import actor_critic
from optix.types import Trajectory, Verdict


def main(windows: int = 60, num_envs: int = 32, num_steps: int = 64) -> None:
    env = device("CartPole-v1")
    spaces = (env.observation_shape, env.action_space)
    agent = ppo(actor_critic(*spaces), *spaces, normalize_rewards=False)
    hyperparams = {name: jnp.float32(x) for name, x in agent.hyperparams.items()}

    def step(carry, key):
        policy, env_state, obs = carry
        act_key, env_key = jax.random.split(key)
        _, action, extras = agent.act(policy, (), obs, hyperparams, act_key, True)
        env_state, result = env.step(env_key, env_state, action)
        transition = Trajectory(
            obs,
            action,
            result.reward,
            result.terminated,
            result.truncated,
            result.next_obs,
            extras,
        )
        return (policy, env_state, result.obs), transition

    @jax.jit
    def window(policy, env_state, obs, history, key):
        step_key, learn_key = jax.random.split(key)
        keys = jax.random.split(step_key, num_steps)
        carry, trajectory = jax.lax.scan(step, (policy, env_state, obs), keys)
        _, env_state, obs = carry
        policy, info, *_ = agent.learn(policy, trajectory, hyperparams, learn_key)
        # a score of one's own: steps per finished episode
        ends = jnp.maximum((trajectory.terminated | trajectory.truncated).sum(), 1)
        history = push(history, trajectory.reward.sum() / ends)
        return policy, env_state, obs, history, assess(history, jnp.inf), info

    key, policy_key, reset_key = jax.random.split(jax.random.key(0), 3)
    policy = agent.init(policy_key)
    env_state, obs = env.reset(reset_key, num_envs)
    history = initial_history()
    for number in range(windows):
        key, window_key = jax.random.split(key)
        policy, env_state, obs, history, assessment, info = window(
            policy, env_state, obs, history, window_key
        )
        if number % 20 == 19:
            print(
                f"window {number + 1}: {history.scores[number % 300]:.0f} steps per "
                f"episode, slope {assessment.slope:+.2f} per window, "
                f"{Verdict(int(assessment.verdict)).name}, kl {info['kl']:.4f}"
            )


if __name__ == "__main__":
    main(*(int(argument) for argument in sys.argv[1:]))
