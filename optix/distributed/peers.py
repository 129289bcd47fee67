"""The processes of a run, as one of them sees them: what they agree on and share.

Each process runs the same commands of JAX in the same order. What depends on the clock, on
signals or on a disk is therefore decided by one of them and told to all, by `Peers`.
"""

import functools
import json
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple, TypeVar

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from optix.types import PyTree

T = TypeVar("T")
_SHORT = 256  # bytes of a message that needs one exchange only
_GONE = re.compile(  # XLA's account of it, a status and its text
    r"^[A-Z_]+: .*(gloo|nccl|rccl|coordination|heartbeat|connection|peer|barrier)",
    re.I | re.S,
)


class HostsError(RuntimeError):
    """The processes of a run can not work together; the message says what to do."""


class PeerLostError(HostsError):
    """Another process of the run is gone."""


class Peers(NamedTuple):
    """The processes of a run, as one of them sees them.

    Each method is called by all of them at the same place of the program.
    """

    process: int  # of this process
    count: int  # of all

    @property
    def leads(self) -> bool:
        """Whether this is the process that writes, logs and decides."""
        return self.process == 0

    def first(self, value: T) -> T:
        """Return what process 0 has: JSON, of which tuples become lists.

        >>> ALONE.first({"seeds": 3})
        {'seeds': 3}
        """
        return value if self.count == 1 else self.all(value)[0]

    def all(self, value: T) -> list[T]:
        """Return what each process has, in their order: JSON."""
        if self.count == 1:
            return [value]
        text = json.dumps(value).encode()
        message = len(text).to_bytes(4, "little") + text
        rows = _exchanged(message, _SHORT)
        sizes = [int.from_bytes(row[:4].tobytes(), "little") for row in rows]
        if max(sizes) + 4 > _SHORT:
            rows = _exchanged(message, max(sizes) + 4)
        pairs = zip(rows, sizes, strict=True)
        return [json.loads(row[4 : 4 + n].tobytes()) for row, n in pairs]

    def meet(self) -> None:
        """Wait until all processes are here, however long that takes."""
        self.all(None)

    def on_first(self, function: Callable[[], T], *errors: type[Exception]) -> T | None:
        """Return what the function does on process 0, None elsewhere.

        Args:
          function: called on process 0 only.
          errors: kinds of errors that all processes raise if it raises one.
        """
        if self.count == 1:
            return function()
        value, failure, told = None, None, None
        if self.leads:
            try:
                value = function()
            except errors as error:
                failure = error
                kinds = [isinstance(error, kind) for kind in errors]
                told = [kinds.index(True), str(error)]
        told = self.first(told)
        if failure is not None:
            raise failure
        if told is not None:
            raise errors[told[0]](f"process 0: {told[1]}")
        return value

    @contextmanager
    def all_or_none(self) -> Iterator[None]:
        """Raise HostsError where the block went well, if it failed in another process."""
        failure = None
        try:
            yield
        except Exception as error:
            failure = error
        told = self.all(failure and str(failure))
        if failure is not None:
            raise failure
        for process, text in enumerate(told):
            if text is not None:
                raise HostsError(f"process {process} can not take part: {text}")

    def must_agree(self, what: str, value: Any) -> None:
        """Raise HostsError unless all processes have the same value: JSON."""
        values = self.all(value)
        for other, theirs in enumerate(values):
            if theirs != values[0]:
                raise HostsError(
                    f"all processes of a run must have the same {what}: process 0 has "
                    f"{_unlike(values[0], theirs)}, process {other} has "
                    f"{_unlike(theirs, values[0])}; start them alike"
                )

    def on_host(self, tree: PyTree) -> PyTree:
        """Return the whole tree where this process can read it, of several on the host.

        Keys stay on a device. Arrays of other processes are fetched: several at once,
        large ones one by one.
        """
        if self.count == 1:
            return tree
        leaves, structure = jax.tree.flatten(tree)
        whole: list[Any] = list(leaves)
        far = [i for i, leaf in enumerate(leaves) if not _near(leaf)]
        large = [i for i in far if leaves[i].size * leaves[i].dtype.itemsize > 2**20]
        small = [i for i in far if i not in set(large)]
        for group in [small, *([i] for i in large)]:
            if group:
                for i, leaf in zip(
                    group, _fetched([leaves[i] for i in group]), strict=True
                ):
                    whole[i] = leaf
        return structure.unflatten([_got(leaf) for leaf in whole])

    def place(self, tree: PyTree, like: PyTree) -> PyTree:
        """Return a whole tree, the same on all processes, on the devices of `like`."""
        return jax.tree.map(place, tree, jax.tree.map(lambda x: x.sharding, like))

    def spread(self, tree: PyTree) -> PyTree:
        """Return the tree of process 0, of which all have the shapes, on their hosts."""
        if self.count == 1:
            return tree
        data = jax.tree.map(lambda x: jax.random.key_data(x) if _is_key(x) else x, tree)
        data = multihost_utils.broadcast_one_to_all(data)
        return jax.tree.map(lambda x, old: _like(np.asarray(x), old), data, tree)


ALONE = Peers(0, 1)


def peers() -> Peers:
    """Return the processes of this run.

    >>> peers()
    Peers(process=0, count=1)
    """
    if not joined():
        return ALONE  # without asking JAX, which would find its devices
    return Peers(jax.process_index(), jax.process_count())


def joined() -> bool:
    """Return whether this process is one of several."""
    return jax.distributed.is_initialized()


@contextmanager
def lost_peers(of: Peers) -> Iterator[None]:
    """Raise PeerLostError in place of what JAX says when another process is gone."""
    try:
        yield
    except (jax.errors.JaxRuntimeError, ValueError) as error:  # it raises both
        if of.count == 1 or not _GONE.search(str(error)):
            raise
        raise PeerLostError(
            "another process of the run has ended or can not be reached "
            f"({str(error).splitlines()[0][:200]}); start all of them again with "
            "`optix resume`, which goes on from the last checkpoint"
        ) from error


def _exchanged(message: bytes, size: int) -> np.ndarray:
    """Return the first `size` bytes of the message of each process, [P, size] uint8."""
    row = np.zeros(size, np.uint8)
    cut = message[:size]
    row[: len(cut)] = np.frombuffer(cut, np.uint8)
    return np.asarray(multihost_utils.process_allgather(row))


def _near(leaf: Any) -> bool:
    """Return whether this process has all of a leaf."""
    return not isinstance(leaf, jax.Array) or (
        leaf.is_fully_addressable or (leaf.is_fully_replicated and not _is_key(leaf))
    )


def _got(leaf: Any) -> Any:
    return leaf if _is_key(leaf) else np.asarray(leaf)


def _fetched(leaves: list[jax.Array]) -> list[Any]:
    """Return the whole of arrays that are spread over processes."""
    mesh = leaves[0].sharding.mesh  # type: ignore[attr-defined]
    whole = _gather(mesh)(leaves)
    return [_like(np.asarray(x), old) for x, old in zip(whole, leaves, strict=True)]


def _like(data: np.ndarray, old: Any) -> Any:
    """Return an array as it is, or as the data of keys, whichever `old` has."""
    if not _is_key(old):
        return data
    return jax.random.wrap_key_data(jax.numpy.asarray(data), impl=_kind(old))


@functools.cache
def _gather(mesh: Any) -> Callable[[list[jax.Array]], list[jax.Array]]:
    def data(leaves):
        return [jax.random.key_data(x) if _is_key(x) else x for x in leaves]

    return jax.jit(data, out_shardings=NamedSharding(mesh, P()))


def place(leaf: Any, sharding: Any) -> jax.Array:
    """Return an array, which each process has, on devices of several processes."""
    if _is_key(leaf):
        data = place(np.asarray(jax.random.key_data(leaf)), sharding)
        return jax.jit(functools.partial(jax.random.wrap_key_data, impl=_kind(leaf)))(
            data
        )
    value = np.asarray(leaf)
    return jax.make_array_from_callback(value.shape, sharding, lambda at: value[at])


def _is_key(leaf: Any) -> bool:
    dtype = getattr(leaf, "dtype", None)
    return dtype is not None and jax.dtypes.issubdtype(dtype, jax.dtypes.prng_key)


def _kind(key: Any) -> Any:
    """Return the implementation of a typed key."""
    return jax.random.key_impl(key)


def _unlike(value: Any, other: Any) -> Any:
    """Return where a mapping is unlike another one, else the value itself."""
    if isinstance(value, dict) and isinstance(other, dict):
        return {name: v for name, v in value.items() if other.get(name) != v}
    return value
