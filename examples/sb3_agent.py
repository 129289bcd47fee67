"""A Stable-Baselines3 model in the autonomous loop: PPO on CartPole until it is learned.

The model, its policy and its settings are yours; the loop collects, calls the model's own
`train`, scores, decides and keeps the best weights. Afterwards the model is saved as ever.
"""

# Stable-Baselines3 is optional, also where types are checked
# pyright: reportMissingImports=false

import sys

import jax
from stable_baselines3 import PPO

import optix
from optix.host import VectorBatchPipeline, host
from optix.host.slots import HostStore
from optix.loop.loop import loop
from optix.tuners.fixed import fixed
from optix_torch import SB3Agent


def main(env_steps: int = 100_000, episodes: int = 8) -> None:
    agent = SB3Agent(PPO("MlpPolicy", "CartPole-v1", n_epochs=4, device="cpu", seed=0))
    pipeline = VectorBatchPipeline("CartPole-v1", num_envs=8, window_size=128)
    learner = host(agent, pipeline, evaluation_episodes=episodes)
    run = loop(learner, fixed(), max_env_steps=env_steps, final_scores=2)
    result = optix.train(run, progress=False)
    print(f"{result.message}: {result.scores[0]:.0f} of 500")

    best = jax.tree.map(lambda x: x[0], result.state.best.policy)
    assert isinstance(learner.host, HostStore)
    learner.host.agent_of(best)
    agent.model.save("cartpole")
    pipeline.close()


if __name__ == "__main__":
    main(*(int(argument) for argument in sys.argv[1:]))
