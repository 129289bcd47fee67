"""Replay on the host, in NumPy: uniform or prioritised, with returns of several steps."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from optix import checks
from optix.host.priorities import SumTree
from optix.math.masks import mask_of, observed
from optix.types import Masked, PyTree

_MASK = "next_mask"  # the column of which actions are allowed after a step


class Rows(NamedTuple):
    """`N` transitions to learn from."""

    obs: np.ndarray  # [N, ...]
    action: np.ndarray  # [N, ...]
    reward: np.ndarray  # [N] float32, discounted sum of up to n rewards
    discount: np.ndarray  # [N] float32 of the value that follows, 0 after a termination
    next_obs: PyTree  # [N, ...], `Masked` where what was added is
    index: np.ndarray  # [N] of the rows, for their priorities
    weight: np.ndarray  # [N] float32, at most 1


class Replay:
    """The memory of one run: single steps, the oldest overwritten first.

    A row knows the row that followed it, within a window and from one window to the next
    where the episodes went on. So returns of several steps are made when they are drawn,
    with the discount of now; they end at an episode's end, and at the newest step.

    Args:
      capacity: rows.
      prioritised: draw by priority (https://arxiv.org/abs/1511.05952), else uniformly.

    Raises:
      ValueError: a capacity that is no positive integer, a flag that is none.

    >>> replay = Replay(100)
    >>> rows = np.arange(3.0).reshape(3, 1)
    >>> never = np.zeros((3, 1), bool)
    >>> replay.add(rows, rows, rows, never, never, rows + 1)
    >>> drawn = replay.sample(np.random.default_rng(0), 4, discount=0.5, n_step=3)
    >>> len(replay), drawn.obs.shape
    (3, (4,))
    """

    def __init__(self, capacity: int, *, prioritised: bool = False):
        """See the class."""
        self.capacity = checks.positive_int("capacity", capacity)
        prioritised = checks.boolean("prioritised", prioritised)
        self._tree = SumTree(self.capacity) if prioritised else None
        self._columns: dict[str, np.ndarray] = {}  # {name: [capacity, ...]}
        self._size = self._cursor = 0
        self._newest = np.zeros(0, np.int64)  # [B] the last step of each environment
        self._ones = np.ones(0, np.float32)

    def __len__(self) -> int:
        """Return how many rows there are."""
        return self._size

    def add(
        self,
        obs: PyTree,
        action: np.ndarray,
        reward: np.ndarray,
        terminated: np.ndarray,
        truncated: np.ndarray,
        next_obs: PyTree,
    ) -> None:
        """Store a window, each [T, B, ...]; of one longer than the capacity, its end.

        Of `Masked` observations the mask of what follows is kept, under which its value
        is learned from; that of what was acted on says nothing of the action taken.

        Raises:
          ValueError: rows of another form than those stored.
        """
        fields = {
            "obs": observed(obs),
            "action": action,
            "reward": reward,
            "terminated": terminated,
            "next_obs": observed(next_obs),
        }
        if (mask := mask_of(next_obs)) is not None:
            fields[_MASK] = np.asarray(mask)
        ended = terminated | truncated
        num_envs = ended.shape[1]
        if num_envs > self.capacity:
            raise checks.OptionError(
                f"capacity must hold a step of each of the {num_envs} environments, got "
                f"{self.capacity}"
            )
        steps = min(len(ended), self.capacity // num_envs)
        fields = {name: _stored(x[-steps:]) for name, x in fields.items()}
        self._make(fields)
        count = steps * num_envs
        place = (self._cursor + np.arange(count)) % self.capacity
        goes_on = self._goes_on(fields["obs"][0], count)
        for name, x in fields.items():
            self._columns[name][place] = x.reshape(count, *x.shape[2:])
        place = place.reshape(steps, num_envs)
        followers = self._columns["follower"]
        followers[place[-1]] = -1
        followers[place[:-1]] = np.where(ended[-steps:][:-1], -1, place[1:])
        followers[self._newest[goes_on]] = place[0][goes_on]
        self._newest = np.where(ended[-1], -1, place[-1])
        if self._tree is not None:
            greatest = self._tree.leaves[: self._size].max() if self._size else 1.0
            place = place.reshape(-1)
            self._tree.write(place, np.full(count, greatest))
        self._cursor = (self._cursor + count) % self.capacity
        self._size = min(self._size + count, self.capacity)

    def sample(
        self,
        rng: np.random.Generator,
        batch_size: int,
        *,
        discount: float,
        n_step: int = 1,
        importance_exponent: float = 0.0,
    ) -> Rows:
        """Draw rows, with replacement.

        Prioritised ones are stratified, one from each of `batch_size` equal parts of the
        total, with weights (size * probability)**-importance_exponent over the greatest.

        Raises:
          ValueError: there is nothing to draw.
        """
        if not self._size:
            raise checks.OptionError(
                "a replay must hold rows before any are drawn, got none; add a window"
            )
        if len(self._ones) != batch_size:
            self._ones = np.ones(batch_size, np.float32)
        if self._tree is None:
            index, weight = rng.integers(0, self._size, batch_size), self._ones
        else:
            part = (np.arange(batch_size) + rng.random(batch_size)) / batch_size
            index = self._tree.find(part * self._tree.total)
            log_weight = -importance_exponent * np.log(self._tree.leaves[index])
            weight = np.exp(log_weight - log_weight.max()).astype(np.float32)
        columns = self._columns
        reward, power, last = self._returns(index, n_step, discount)
        power[columns["terminated"].take(last)] = 0.0
        next_obs = columns["next_obs"].take(last, 0)
        if _MASK in columns:
            next_obs = Masked(next_obs, columns[_MASK].take(last, 0))
        return Rows(
            columns["obs"].take(index, 0),
            columns["action"].take(index, 0),
            reward,
            power,
            next_obs,
            index,
            weight,
        )

    def prioritise(self, index: np.ndarray, priority: np.ndarray) -> None:
        """Give rows priorities, |td_error|**alpha; does nothing if not prioritised."""
        if self._tree is not None:
            self._tree.write(index, priority)

    def state(self) -> dict[str, np.ndarray]:
        """Return copies of all there is to save, {name: array}."""
        arrays = {name: x[: self._size].copy() for name, x in self._columns.items()}
        if self._tree is not None:
            arrays["priority"] = self._tree.leaves[: self._size].copy()
        return {**arrays, "cursor": np.array(self._cursor)}

    def restore(self, arrays: Mapping[str, Any]) -> None:
        """Become what `state` was taken of.

        Raises:
          ValueError: more rows than the capacity, or those of another kind of replay.
        """
        given = {name: np.asarray(x) for name, x in arrays.items()}
        cursor = int(given.pop("cursor", 0))
        priority = given.pop("priority", None)
        size = len(given["reward"]) if given else 0
        full = size == self.capacity
        if size > self.capacity or cursor != (cursor if full else size % self.capacity):
            raise checks.OptionError(
                f"capacity must be that of the saved replay, of {size} rows and the next "
                f"in place {cursor}, got {self.capacity}"
            )
        if size and (priority is None) != (self._tree is None):
            raise checks.OptionError(
                f"prioritised must be as in the saved replay, {priority is not None}, "
                f"got {self._tree is not None}"
            )
        self._columns = {
            name: np.empty((self.capacity, *x.shape[1:]), x.dtype)
            for name, x in given.items()
        }
        for name, x in given.items():
            self._columns[name][:size] = x
        self._size, self._cursor = size, cursor
        self._newest = np.zeros(0, np.int64)  # its episodes are over
        if self._tree is not None:
            self._tree = SumTree(self.capacity)
            if priority is not None:
                self._tree.write(np.arange(size), priority)

    def _make(self, fields: Mapping[str, np.ndarray]) -> None:
        """Make room for rows like these, or check that there is."""
        if not self._columns:
            self._columns = {
                name: np.empty((self.capacity, *x.shape[2:]), x.dtype)
                for name, x in fields.items()
            }
            self._columns["follower"] = np.full(self.capacity, -1, np.int64)
        if (_MASK in fields) != (_MASK in self._columns):
            there = _MASK in self._columns
            raise checks.OptionError(
                f"observations must come {'with' if there else 'without'} action masks as "
                f"in the rows stored, got them {'without' if there else 'with'}; a run "
                "keeps to one environment"
            )
        for name, x in fields.items():
            room = self._columns[name]
            if room.shape[1:] != x.shape[2:] or room.dtype != x.dtype:
                raise checks.OptionError(
                    f"{name} must be {room.dtype}{list(room.shape[1:])} as in the rows "
                    f"stored, got {x.dtype}{list(x.shape[2:])}; a run keeps to one "
                    "environment"
                )

    def _goes_on(self, obs: np.ndarray, count: int) -> np.ndarray:
        """Which environments go on with the episodes of the last window, [B] bool.

        They begin with the very observations that it ended on.
        """
        newest = self._newest
        if newest.shape != obs.shape[:1] or count + len(newest) > self.capacity:
            self._newest = np.full(len(obs), -1, np.int64)
            return np.zeros(len(obs), bool)
        same = self._columns["next_obs"][newest] == obs
        return same.reshape(len(obs), -1).all(1) & (newest >= 0)

    def _returns(self, index, n_step, discount):
        """Return (reward, power of the discount, the last row) of up to n steps."""
        reward = self._columns["reward"].take(index)
        if n_step == 1:
            return reward, np.full(len(index), discount, np.float32), index
        power, last = np.full(len(index), discount), index
        reward = reward.astype(np.float64)
        for _ in range(n_step - 1):
            following = self._columns["follower"].take(last)
            there = following >= 0
            last = np.where(there, following, last)
            reward += np.where(there, power * self._columns["reward"].take(last), 0.0)
            power = np.where(there, power * discount, power)
        return reward.astype(np.float32), power.astype(np.float32), last


def _stored(x: np.ndarray) -> np.ndarray:
    """Return what a replay keeps of an array: no more than float32."""
    return x.astype(np.float32) if x.dtype == np.float64 else x
