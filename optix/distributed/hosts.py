"""Several processes, on one machine or many, that are joined to run one program."""

import functools
import hashlib
import os
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib import metadata
from pathlib import Path

import jax

from optix import checks
from optix.distributed.peers import HostsError, PeerLostError, lost_peers, peers

LOST = 75  # exit code of a process whose peers are gone or never came: try again
_LOOPBACK = ("localhost", "127.", "[::1]", "::1")


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
        At the end too, where those that are done wait for one that still writes.
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
                shutdown_timeout_seconds=join_seconds,
                coordinator_bind_address=bind,
            )
        except (ValueError, RuntimeError) as error:
            raise HostsError(
                f"the processes of the run could not be joined ({error}); under Slurm, "
                "Kubernetes or MPI start one on each host, elsewhere give coordinator, "
                "process and processes, and before JAX computes anything"
            ) from error
        _no_farewell_after_errors()
        with lost_peers(peers()):
            peers().must_agree("version of optix, jax and Python", versions())
            peers().must_agree("number of processes", processes)


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


def leave_at_once(code: int) -> None:
    """End this process without a farewell to peers that are gone."""
    for stream in (sys.stdout, sys.stderr):
        with suppress(Exception):
            stream.flush()
    os._exit(code)


def _no_farewell_after_errors() -> None:
    """End a process that fails at once: JAX would have it wait for the others."""
    tell = sys.excepthook

    def told(kind, error, trace):
        tell(kind, error, trace)
        leave_at_once(LOST if issubclass(kind, PeerLostError) else 1)

    sys.excepthook = told


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
