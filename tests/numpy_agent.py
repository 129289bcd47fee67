"""Host agents in NumPy: REINFORCE with a softmax-linear policy; one that stands still."""

import numpy as np

from optix.host.agent import BaseAgent, HyperparamSet


class NumpyAgent(BaseAgent):
    """Two actions, four observations and a bias; weights in one `.npz` file."""

    scale = np.array([2.4, 2.0, 0.2, 2.0])  # of CartPole's observations

    def __init__(self, learning_rate=4.0, discount=0.98):
        self.weights = np.zeros((len(self.scale) + 1, 2))
        self.hyperparams = HyperparamSet(
            {"learning_rate": learning_rate, "discount": discount, "sweeps": 1}
        )
        self.rng = np.random.default_rng(0)

    def probabilities(self, observations):
        ones = np.ones((*observations.shape[:-1], 1))
        features = np.concatenate([observations / self.scale, ones], -1)
        logits = features @ self.weights
        exp = np.exp(logits - logits.max(-1, keepdims=True))
        return features, exp / exp.sum(-1, keepdims=True)

    def act(self, observation, explore=True):
        _, probabilities = self.probabilities(observation)
        if explore:
            return int(self.rng.random() > probabilities[0])
        return int(probabilities.argmax())

    def learn(self, episode_data):
        params = self.hyperparams.params
        returns = np.zeros(episode_data.length)
        following = 0.0
        for t in reversed(range(episode_data.length)):
            following *= not episode_data.dones[t]
            following = episode_data.rewards[t] + params["discount"] * following
            returns[t] = following
        advantage = (returns - returns.mean()) / (returns.std() + 1e-8)
        features, probabilities = self.probabilities(episode_data.observations)
        chosen = np.eye(probabilities.shape[-1])[episode_data.actions]
        slope = features.T @ (advantage[:, None] * (chosen - probabilities))
        self.weights = self.weights + params["learning_rate"] * slope / len(returns)
        entropy = -(probabilities * np.log(probabilities + 1e-12)).sum(-1).mean()
        return {"entropy": entropy, "kind": "reinforce"}

    def get_hyperparams(self):
        return self.hyperparams

    def set_hyperparams(self, hyperparams):
        self.hyperparams = hyperparams

    def save_weights(self, path):
        np.savez(path, weights=self.weights)

    def load_weights(self, path):
        with np.load(path + ".npz") as file:
            self.weights = file["weights"]

    def seed(self, seed):
        self.rng = np.random.default_rng(seed)


class StillAgent(BaseAgent):
    """Acts always alike, learns nothing, and has nothing to keep."""

    def act(self, observation):
        return 0

    def learn(self, episode_data):
        return {}

    def get_hyperparams(self):
        return HyperparamSet({})

    def set_hyperparams(self, hyperparams):
        pass

    def save_weights(self, path):
        pass

    def load_weights(self, path):
        pass
