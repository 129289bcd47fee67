"""A TensorFlow agent in the autonomous loop: PPO on CartPole.

The models and the optimizer may be yours (`TFPPOAgent(actor, critic, optimizer)`);
the loop collects, learns, scores, decides and keeps the best weights.
"""

import sys

import gymnasium
import jax

import optix
from optix.host import VectorBatchPipeline, host
from optix.host.slots import HostStore
from optix.loop.loop import loop
from optix.tuners.fixed import fixed
from optix_tensorflow import TFPPOAgent


def main(env_steps: int = 41_000, episodes: int = 8) -> None:
    agent = TFPPOAgent.for_env(gymnasium.make("CartPole-v1"), learning_rate=2.5e-3)
    pipeline = VectorBatchPipeline("CartPole-v1", num_envs=8, window_size=32)
    learner = host(agent, pipeline, evaluation_episodes=episodes)
    run = loop(learner, fixed(), max_env_steps=env_steps, final_scores=2)
    result = optix.train(run, progress=False)
    print(f"{result.message}: {result.scores[0]:.0f} of 500")

    best = jax.tree.map(lambda x: x[0], result.state.best.policy)
    assert isinstance(learner.host, HostStore)
    learner.host.agent_of(best).save_weights("policy.h5")
    pipeline.close()


if __name__ == "__main__":
    main(*(int(argument) for argument in sys.argv[1:]))
