"""Several processes, on one machine or many, that run one program: `join` and `peers`.

Each process runs the same commands of JAX in the same order. What depends on the clock, on
signals or on a disk is therefore decided by one of them and told to all, by `Peers`.
"""

import functools
import hashlib
import json
import os
import re
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from optix import checks
from optix.types import PyTree

T = TypeVar("T")
LOST = 75  # exit code of a process whose peers are gone or never came: try again
_SHORT = 256  # bytes of a message that needs one exchange only
_LOOPBACK = ("localhost", "127.", "[::1]", "::1")
_GONE = re.compile(
    r"gloo|nccl|rccl|coordination|heartbeat|connection|peer|barrier", re.I
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


def join(
    coordinator: str | None = None,
    process: int | None = None,
    processes: int | None = None,
    *,
    devices: int | None = None,
    join_seconds: int = 300,
    heartbeat_seconds: int = 30,
) -> None:
    """Make this process one of several that run one program, before JAX computes.

    Args:
      coordinator: ADDRESS:PORT of process 0; None where Slurm, Kubernetes or MPI says all.
      process: the number of this one, from 0.
      processes: how many there are.
      devices: how many all of them have together; on a CPU each makes its part, if
        `processes` says how many parts.
      join_seconds: how long to wait for the others; then this process ends with LOST.
      heartbeat_seconds: how long a process may be silent before all others end.

    Raises:
      OptionError: an option is out of range, or only some of the first three are given.
      HostsError: the port is in use, no cluster was found, or versions differ.
    """
    checks.positive_int("join_seconds", join_seconds)
    checks.positive_int("heartbeat_seconds", heartbeat_seconds)
    given = {"coordinator": coordinator, "process": process, "processes": processes}
    some = [name for name, value in given.items() if value is not None]
    if some and len(some) < 3:
        raise checks.OptionError(
            "coordinator, process and processes must be given together, or none of them "
            f"where Slurm, Kubernetes or MPI says them, got only {', '.join(some)}"
        )
    bind = None
    if coordinator is not None:
        count = checks.positive_int("processes", processes)
        checks.positive_int("process", process, 0, count - 1)
        bind = _checked_address(coordinator, listens=process == 0)
    if devices is not None:
        _make_devices(devices, processes)
    # which needs no thread that catches SIGTERM before Python does
    jax.config.update("jax_enable_preemption_service", False)
    with _patience(join_seconds, coordinator, processes):
        try:
            jax.distributed.initialize(
                coordinator,
                processes,
                process,
                # past our own patience: JAX would abort the process without a word
                initialization_timeout=join_seconds + 60,
                heartbeat_timeout_seconds=heartbeat_seconds,
                shutdown_timeout_seconds=heartbeat_seconds,
                coordinator_bind_address=bind,
            )
        except (ValueError, RuntimeError) as error:
            raise HostsError(
                f"the processes of the run could not be joined ({error}); under Slurm, "
                "Kubernetes or MPI start one on each host, elsewhere give coordinator, "
                "process and processes, and before JAX computes anything"
            ) from error
        with lost_peers(peers()):
            peers().must_agree("version of optix, jax and Python", versions())


def _make_devices(devices: int, processes: int | None) -> None:
    checks.positive_int("devices", devices)
    if processes is None:
        return
    if devices % processes:
        raise checks.OptionError(
            f"devices must be divisible by the {processes} processes of a run, which "
            f"have as many each, got {devices}"
        )
    with suppress(RuntimeError):  # JAX has them already
        jax.config.update("jax_num_cpu_devices", devices // processes)


def joined() -> bool:
    """Return whether this process is one of several."""
    return jax.distributed.is_initialized()


def leave_at_once(code: int) -> None:
    """End this process without a farewell to peers that are gone."""
    for stream in (sys.stdout, sys.stderr):
        with suppress(Exception):
            stream.flush()
    os._exit(code)


@contextmanager
def lost_peers(of: Peers) -> Iterator[None]:
    """Raise PeerLostError in place of what JAX says when another process is gone."""
    try:
        yield
    except jax.errors.JaxRuntimeError as error:
        if of.count == 1 or not _GONE.search(str(error)):
            raise
        raise PeerLostError(
            "another process of the run has ended or can not be reached "
            f"({str(error).splitlines()[0][:200]}); start all of them again with "
            "`optix resume`, which goes on from the last checkpoint"
        ) from error


def versions() -> dict[str, str]:
    """Return what all processes of a run must have alike, so that they compute alike."""
    try:
        version = metadata.version("tensor-optix-jax")
    except metadata.PackageNotFoundError:
        version = "source"
    return {
        "optix": f"{version} (sources {_sources()})",
        "jax": jax.__version__,
        "python": ".".join(map(str, sys.version_info[:2])),
    }


@functools.cache
def _sources() -> str:
    """Return a checksum of all of optix: two checkouts may have one version."""
    root, total = Path(__file__).parents[1], hashlib.sha256()
    for path in sorted(root.rglob("*.py")):
        total.update(str(path.relative_to(root)).encode())
        total.update(path.read_bytes())
    return total.hexdigest()[:12]


def _checked_address(address: str, listens: bool) -> str | None:
    """Return where process 0 listens: on loopback for an address there, else JAX says."""
    host, _, port = address.rpartition(":")
    if not host or not port.isdigit() or not 0 < int(port) < 2**16:
        raise checks.OptionError(
            f"coordinator must be ADDRESS:PORT, such as 10.0.0.1:7777, got {address!r}"
        )
    local = host.startswith(_LOOPBACK)
    if listens:
        kind = socket.AF_INET if "[" not in host else socket.AF_INET6
        with socket.socket(kind) as trial:
            trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                trial.bind((host.strip("[]") if local else "", int(port)))
            except OSError as error:
                raise HostsError(
                    f"process 0 can not listen at {address} ({error.strerror}); end what "
                    "uses that port, or give all processes another one"
                ) from error
    return address if local else None


@contextmanager
def _patience(
    seconds: int, coordinator: str | None, processes: int | None
) -> Iterator[None]:
    """End the process if others do not come: JAX waits where no exception can reach it."""

    def give_up():
        who = "the others" if processes is None else f"all {processes} processes"
        where = "" if coordinator is None else f" at {coordinator}"
        print(
            f"optix: {who} of the run must come together{where} within {seconds} s "
            "(--join-seconds); at least one did not, see that each was started and can "
            "reach that address",
            file=sys.stderr,
        )
        leave_at_once(LOST)

    clock = threading.Timer(seconds, give_up)
    clock.daemon = True
    clock.start()
    try:
        yield
    finally:
        clock.cancel()


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
