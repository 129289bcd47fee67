"""A live source: a room that cools by itself, whether anybody heats it or not.

The room is measured a thousand times a second and keeps the last command it was given.
Nothing about it can be reset or copied, so it is one lane and one seed; with a buffer of
one the agent acts on the newest measurement, and what it was too slow for is counted.
Any source with a method `stream` will do: a socket, a robot, a market.
"""

import sys
import time

import numpy as np

import optix
from optix.host import BaseAgent, HyperparamSet, LivePipeline, host
from optix.loop.loop import loop
from optix.tuners.fixed import fixed


class Room:
    """Yields (observation, reward, terminated, truncated, info) for ever."""

    def __init__(self, pause: float = 1e-3):
        self.pause, self.heats = pause, False
        self.rng = np.random.default_rng(0)

    def stream(self):
        degrees = 15.0
        while True:
            time.sleep(self.pause)
            degrees += 0.4 * self.heats - 0.2 + 0.02 * self.rng.normal()
            degrees = float(np.clip(degrees, 10.0, 30.0))
            error = (degrees - 20.0) / 10.0
            shown = np.array([error], np.float32)
            yield shown, -abs(error), False, False, {"degrees": degrees}

    def act(self, action):
        self.heats = bool(action)


class Thermostat(BaseAgent):
    """Policy gradient of a line through the error, by what the next step gained."""

    def __init__(self):
        self.weights, self.rate = np.zeros(2), 5.0
        self.rng = np.random.default_rng(0)

    def heating(self, observations):
        features = np.concatenate([observations, np.ones_like(observations)], -1)
        chance = 1 / (1 + np.exp(-np.clip(features @ self.weights, -30, 30)))
        return features, chance

    def act(self, observation, explore=True):
        _, chance = self.heating(observation)
        return int(chance > (self.rng.random() if explore else 0.5))

    def learn(self, episode_data):
        features, chance = self.heating(episode_data.observations)
        before = -np.abs(episode_data.observations[:, 0])
        gain = episode_data.rewards - before
        gain = (gain - gain.mean()) / (gain.std() + 1e-6)
        slope = (gain * (episode_data.actions - chance)) @ features / len(gain)
        self.weights = self.weights + self.rate * slope
        return {"heating": float(episode_data.actions.mean())}

    def get_hyperparams(self):
        return HyperparamSet({"rate": self.rate})

    def set_hyperparams(self, hyperparams):
        self.rate = hyperparams.params["rate"]

    def state(self):
        return {"weights": self.weights.copy()}

    def restore(self, state):
        self.weights = state["weights"]

    def save_weights(self, path):
        np.save(f"{path}.npy", self.weights)

    def load_weights(self, path):
        self.weights = np.load(f"{path}.npy")


def main(max_rounds: int = 15, steps: int = 50) -> None:
    source = Room()
    pipeline = LivePipeline(
        source,
        boundary=LivePipeline.every_n_steps(steps),
        buffer_size=1,
        overflow="drop_oldest",
    )
    # a score is two windows that nothing is learned from, so a round learns from four
    learner = host(Thermostat(), pipeline, evaluation_episodes=2, metrics=("heating",))
    run = loop(
        learner, fixed(), windows_per_round=4, max_rounds=max_rounds, final_scores=1
    )
    result = optix.train(run, progress=False)
    off = -10.0 * float(result.scores[0]) / steps
    print(f"{result.message}; on average {off:.1f} degrees off")
    print(f"{pipeline.dropped} measurements came faster than the agent acted")
    pipeline.close()


if __name__ == "__main__":
    main(*(int(argument) for argument in sys.argv[1:]))
