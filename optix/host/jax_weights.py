"""Policies as plain arrays, {name: array}, files of them, and agents kept so."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any
from zipfile import BadZipFile

import jax
import jax.numpy as jnp
import numpy as np

from optix import checks
from optix.host.agent import BaseAgent
from optix.host.packed import arrays_of, bytes_of_arrays
from optix.host.weights import averaged, check_shape, weights_file
from optix.types import Policy

SUFFIX = ".npz"
_MOMENTS = ".opt_state"  # the beginning of their names


def named(policy: Policy) -> dict[str, jax.Array]:
    """Return the arrays of a policy by their place in it.

    >>> list(named(Policy({"kernel": jnp.zeros(2)}, extras=jnp.zeros(()))))
    [".params['kernel']", '.extras']
    """
    leaves = jax.tree_util.tree_leaves_with_path(policy)
    return {jax.tree_util.keystr(path): jnp.asarray(leaf) for path, leaf in leaves}


def restored(policy: Policy, arrays: Mapping[str, np.ndarray]) -> Policy:
    """Return a policy of the same form with these arrays.

    Raises:
      ValueError: they are of another network or agent.
    """
    leaves = named(policy)
    for name in dict.fromkeys((*leaves, *arrays)):
        check_shape(name, leaves.get(name), arrays.get(name))
    new = [_like(arrays[name], leaf) for name, leaf in leaves.items()]
    return jax.tree.unflatten(jax.tree.structure(policy), new)


def perturbed(policy: Policy, noise: float, key: jax.Array) -> Policy:
    """Return a policy whose parameters are times 1 + `noise` times a normal number."""
    leaves, tree = jax.tree.flatten(policy.params)
    keys = jax.random.split(key, len(leaves))
    moved = [
        x * (1 + noise * jax.random.normal(key, x.shape, x.dtype))
        for key, x in zip(keys, leaves, strict=True)
    ]
    return policy._replace(params=jax.tree.unflatten(tree, moved))


def write(path: str, arrays: Mapping[str, np.ndarray]) -> None:
    """Write arrays as an .npz file: `path`, with that ending added if it lacks."""
    weights_file(path, SUFFIX).write_bytes(bytes_of_arrays(arrays))


def read(path: str) -> dict[str, np.ndarray]:
    """Return the arrays of a file that `write` wrote; nothing in it is executed.

    Raises:
      ValueError: it is no such file.
      FileNotFoundError: there is none.
    """
    file = weights_file(path, SUFFIX, written=True)
    try:
        return arrays_of(file.read_bytes())
    except (BadZipFile, ValueError, EOFError, OSError) as error:
        raise checks.OptionError(
            f"{file} must be an .npz file that save_weights wrote, got one that can not "
            f"be read as such ({error}); pickles are never loaded"
        ) from error


class PolicyAgent(BaseAgent):
    """A host agent whose weights are a `Policy`: how it is kept, seeded and changed.

    policy: its `Policy` now.
    untouched: whether the weights are nobody's yet, so that each run may begin with its
        own.
    """

    def __init__(self, init: Callable[[jax.Array], Policy], seed: int):
        """Take first weights of `init`."""
        self._init, self.untouched = init, True
        self.policy: Policy = Policy(())
        self.reset(seed)
        self.seed(seed)

    def seed(self, seed: int) -> None:
        """Seed what acting and learning draw."""
        self._key, self._turn = _key(seed), 0
        self._rng = np.random.default_rng(seed)

    def reset(self, seed: int) -> None:
        """Take new first weights, unless they have learned, or were loaded or changed."""
        if not self.untouched:
            return
        self.policy = self._init(_key(seed))
        # running: [B] discounted returns under way; due: share of an update
        first = {"running": np.zeros(0), "env_steps": 0, "due": 0.0}
        self._numbers = {name: np.array(value) for name, value in first.items()}

    def state(self) -> dict[str, np.ndarray]:
        """Return copies of the policy and of the numbers beside it, {name: array}."""
        both = {**named(self.policy), **self._numbers}
        return {name: np.array(x) for name, x in both.items()}

    def restore(self, state: Mapping[str, np.ndarray]) -> None:
        """Become what `state` was taken of.

        Raises:
          ValueError: it is of another network or agent; nothing is changed then.
        """
        numbers = {
            name: np.array(state[name]) for name in self._numbers if name in state
        }
        if missing := self._numbers.keys() - numbers.keys():
            raise checks.OptionError(
                f"{min(missing)} must be in the state, got {sorted(state)}; it is of "
                "another agent"
            )
        self.policy = restored(self.policy, self._arrays(state))
        self._numbers, self.untouched = numbers, False

    def take(self, policy: Policy) -> None:
        """Take a policy of this agent, the best of a run say.

        Raises:
          ValueError: it is of another network or agent.
        """
        arrays = {name: np.asarray(x) for name, x in named(policy).items()}
        self.policy, self.untouched = restored(self.policy, arrays), False

    def save_weights(self, path: str) -> None:
        """Write the whole state as an .npz file of arrays."""
        write(path, self.state())

    def load_weights(self, path: str) -> None:
        """Read what `save_weights` wrote; nothing in the file is executed.

        Raises:
          ValueError: another kind of file, or one of another network.
          FileNotFoundError: there is none.
        """
        self.restore(read(path))

    def average_weights(self, paths: Iterable[str]) -> None:
        """Take the mean of the weights saved at `paths`; whole numbers of the first.

        Normalisers and targets are averaged too, the optimizer stays as it is.

        Raises:
          ValueError: no paths, or weights of another network.
        """
        states = [self._arrays(read(path)) for path in paths]
        if not states:
            raise checks.OptionError("paths must name at least one file, got none")
        others = [named(restored(self.policy, state)) for state in states]
        mean = averaged(named(self.policy), others, (_MOMENTS,))
        self.policy, self.untouched = restored(self.policy, mean), False

    def perturb_weights(self, noise: float) -> None:
        """Multiply every parameter by 1 + `noise` times a standard normal number."""
        noise = checks.within("noise", noise, 0.0, 1e3)
        self.take(perturbed(self.policy, noise, self._next_key()))

    def _arrays(self, state: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Return what of a state is of the policy."""
        return {name: x for name, x in state.items() if name not in self._numbers}

    def _next_key(self) -> jax.Array:
        self._turn += 1
        return jax.random.fold_in(self._key, self._turn)


def _like(array: Any, leaf: jax.Array) -> jax.Array:
    """Return an array in the type of a leaf; .npy knows no bfloat16, but its bytes."""
    array = np.asarray(array)
    if array.dtype.kind == "V" and array.dtype.itemsize == leaf.dtype.itemsize:
        array = array.view(leaf.dtype)
    return jnp.array(array, leaf.dtype)


def _key(seed: int) -> jax.Array:
    return jax.random.key(np.uint32(int(seed) % 2**32))
