"""What of a Stable-Baselines3 model is no network: replay, moments, counters."""

# Stable-Baselines3 is optional, also where types are checked
# pyright: reportMissingImports=false

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import numpy as np

from optix import checks
from optix.host.advantages import discounted_returns

COUNTERS = (
    "num_timesteps",
    "_n_updates",
    "_n_calls",
    "exploration_rate",
    "_current_progress_remaining",
)


class ModelReplay:
    """The replay of one run, of the model's own class: the memory of an `SB3Agent`.

    It is made when the first window tells how many environments there are. What the model
    already had in its replay, the run begins with.
    """

    def __init__(self, model: Any):
        """Take the model whose replay it is like."""
        self._model = model
        self.buffer: Any = None

    def __len__(self) -> int:
        """Return how many rows there are."""
        return 0 if self.buffer is None else self.buffer.size() * self.buffer.n_envs

    def of(self, num_envs: int) -> Any:
        """Return the buffer of so many environments.

        Raises:
          ValueError: it has been filled by another number of them.
        """
        if self.buffer is None:
            self.buffer = self._made(num_envs)
            own = self._model.replay_buffer
            if own is not None and own.size() and own.n_envs == num_envs:
                self.restore(_saved(own))
        if self.buffer.n_envs != num_envs:
            raise checks.OptionError(
                f"a window must be of the {self.buffer.n_envs} environments that filled "
                f"the replay, got {num_envs}"
            )
        return self.buffer

    def state(self) -> dict[str, np.ndarray]:
        """Return copies of all there is to save, {name: array}."""
        return {} if self.buffer is None else _saved(self.buffer)

    def restore(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Become what `state` was taken of."""
        if not arrays:
            self.buffer = None
            return
        buffer = self._made(int(arrays["n_envs"]))
        fields = _fields(buffer)
        checks.known_names("field of the replay", fields, set(arrays))
        for name, room in fields.items():
            rows = arrays[name]
            if len(rows) > len(room) or rows.shape[1:] != room.shape[1:]:
                raise checks.OptionError(
                    f"{name} of the replay must be at most {list(room.shape)}, got "
                    f"{list(rows.shape)}; it is of another model or buffer_size"
                )
            room[: len(rows)] = rows
        buffer.pos, buffer.full = int(arrays["pos"]), bool(arrays["full"])
        self.buffer = buffer

    def _made(self, num_envs: int) -> Any:
        model = self._model
        return model.replay_buffer_class(
            model.buffer_size,
            model.observation_space,
            model.action_space,
            device=model.device,
            n_envs=num_envs,
            optimize_memory_usage=model.optimize_memory_usage,
            **model.replay_buffer_kwargs,
        )


class ModelMoments:
    """The moments of the VecNormalize around a model's environments."""

    def __init__(self, normalize: Any):
        """Take the VecNormalize."""
        self._normalize = normalize
        self._running = np.zeros(0)  # [B] returns of the episodes under way

    def observations(self, observations: Any) -> Any:
        """Return observations as the model gets them."""
        return self._normalize.normalize_obs(observations)

    def rewards(self, rewards: np.ndarray, ended: np.ndarray, began: np.ndarray) -> Any:
        """Take in rewards [T, B], and return them as the model gets them."""
        normalize = self._normalize
        if normalize.training:
            running = self._running
            running = running if running.shape == began.shape else np.zeros(began.shape)
            running = np.where(began, 0.0, running)
            returns, self._running = discounted_returns(
                rewards, ended, running, normalize.gamma
            )
            normalize.ret_rms.update(returns.reshape(-1))
        return normalize.normalize_reward(rewards)

    def observe(self, observations: Any) -> None:
        """Take in the observations [T, B, ...] of a window."""
        normalize = self._normalize
        if not (normalize.training and normalize.norm_obs):
            return
        if isinstance(normalize.obs_rms, dict):
            for key, moments in normalize.obs_rms.items():
                moments.update(_rows(observations[key]))
        else:
            normalize.obs_rms.update(_rows(observations))

    def state(self) -> dict[str, np.ndarray]:
        """Return all there is to save, as plain arrays."""
        arrays = {"running": self._running.copy()}
        for name, moments in self._moments().items():
            for part in ("mean", "var", "count"):
                arrays[f"{name}/{part}"] = np.array(getattr(moments, part))
        return arrays

    def restore(self, state: Mapping[str, np.ndarray]) -> None:
        """Go on from what `state` returned."""
        checks.known_names("moment of the state", self.state(), set(state))
        self._running = np.array(state["running"])
        for name, moments in self._moments().items():
            moments.mean = np.array(state[f"{name}/mean"])
            moments.var = np.array(state[f"{name}/var"])
            moments.count = float(state[f"{name}/count"])

    def _moments(self) -> dict[str, Any]:
        normalize = self._normalize
        found = {"returns": normalize.ret_rms}
        observed = getattr(normalize, "obs_rms", None)
        if isinstance(observed, dict):
            found |= {f"observations/{key}": x for key, x in observed.items()}
        elif observed is not None:
            found["observations"] = observed
        return found


class ModelCounters:
    """What a model counts, by its own names."""

    def __init__(self, model: Any):
        """Take the model."""
        self._model = model
        self._names = [name for name in COUNTERS if hasattr(model, name)]
        self.since = np.zeros(2, np.int64)  # steps and episodes since the last training

    def state(self) -> dict[str, np.ndarray]:
        """Return all there is to save, as plain arrays."""
        counted = {name: np.array(getattr(self._model, name)) for name in self._names}
        return {**counted, "since": self.since.copy()}

    def restore(self, state: Mapping[str, np.ndarray]) -> None:
        """Go on from what `state` returned."""
        checks.known_names("counter of the state", self.state(), set(state))
        for name in self._names:
            setattr(self._model, name, np.asarray(state[name]).item())
        self.since = np.array(state["since"])


def _saved(buffer: Any) -> dict[str, np.ndarray]:
    # where next observations are not kept, the row after the last one holds them
    rows = min(buffer.size() + 1, buffer.buffer_size)
    arrays = {name: room[:rows].copy() for name, room in _fields(buffer).items()}
    numbers = {"pos": buffer.pos, "full": buffer.full, "n_envs": buffer.n_envs}
    return {**arrays, **{name: np.array(value) for name, value in numbers.items()}}


def _fields(buffer: Any) -> dict[str, np.ndarray]:
    """The arrays of a replay buffer by name; of a dict of observations, each of them."""
    found = {}
    for name, value in vars(buffer).items():
        parts = value if isinstance(value, dict) else {"": value}
        for key, part in parts.items():
            if isinstance(part, np.ndarray) and part.shape[:2] == (
                buffer.buffer_size,
                buffer.n_envs,
            ):
                found[f"{name}/{key}" if key else name] = part
    return found


def _rows(observations: np.ndarray) -> np.ndarray:
    return observations.reshape(-1, *observations.shape[2:])


def action_noise(model: Any, num_envs: int) -> Any:
    """Return the model's action noise for so many environments, as the model makes it."""
    from stable_baselines3.common.noise import VectorizedActionNoise

    noise = model.action_noise
    if noise is None:
        return None
    if isinstance(noise, VectorizedActionNoise):
        if len(noise.noises) == num_envs:
            return noise
        noise = noise.base_noise
    if num_envs == 1:
        return noise
    return VectorizedActionNoise(copy.deepcopy(noise), num_envs)
