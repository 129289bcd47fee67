"""A cluster of Ray: joined where RAY_ADDRESS names one, else started on this machine."""

import contextlib
import ctypes
import importlib.util
import json
import logging
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from optix import checks

_SETTINGS = {  # that Ray reads when it is imported
    "RAY_AUTH_MODE": "token",
    "RAY_USAGE_STATS_ENABLED": "0",
}
# without which Ray replaces 127.0.0.1 by an address that others can reach
_LOOPBACK = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}
# in a process of its own: to start one, Ray forks, and a fork of a process that computes
# by JAX may find a lock taken; it ends when its input does, so with whoever started it,
# however that ends
_HOLD = """
import json, logging, sys, ray
answers, sys.stdout = sys.stdout, sys.stderr
here = json.loads(sys.argv[1])
told = ray.init("local", logging_level=logging.ERROR, log_to_driver=False, **here)
print(told.address_info["gcs_address"], file=answers, flush=True)
sys.stdin.read()
ray.shutdown()
"""
# Ray ends a process whose cluster goes away at once, with no exception: somebody else must
# say so. Its input ends with that process; a word before says that all was well
_WITNESS = """
import json, socket, sys
if not sys.stdin.read():
    for address in map(tuple, json.loads(sys.argv[1])):
        try:
            socket.create_connection(address, 2.0).close()
        except OSError:
            sys.exit(sys.argv[2])
"""
_GONE = (
    "optix: Ray's cluster at {} has gone away, and Ray has ended this run with it; "
    "`optix resume DIR` goes on from the last checkpoint, with another cluster"
)
_PATIENCE = 10.0  # seconds that a cluster has to end


def check_ray(what: str) -> None:
    """Raise OptionError if Ray is not installed."""
    if importlib.util.find_spec("ray") is None:
        raise checks.OptionError(
            f"{what} needs the package ray: pip install 'tensor-optix-jax[ray]'"
        )


@contextlib.contextmanager
def joined_ray(what: str, processors: int | None = None) -> Iterator[Any]:
    """Give the module ray while this process is in a cluster.

    One that is started here has its token authentication on, no dashboard, listens to
    this machine only, and ends with the context, or with this process.

    Args:
      what: needs it, for the message.
      processors: that one which is started here takes itself to have; None for all.

    Raises:
      OptionError: Ray is not installed, or was imported before.
    """
    check_ray(what)
    address = os.environ.get("RAY_ADDRESS")
    needed = {**_SETTINGS, **({} if address else _LOOPBACK)}
    late = "ray" in sys.modules and not needed.keys() <= os.environ.keys()
    if not late:
        for name, value in needed.items():
            os.environ.setdefault(name, value)
    import ray  # type: ignore

    if ray.is_initialized():
        yield ray
        return
    if late:
        raise checks.OptionError(
            "ray must be imported by optix, or first be told to serve this machine only; "
            f"before `import ray` set in the environment {needed}, or call ray.init() "
            "yourself, whose cluster is then joined"
        )
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    with contextlib.ExitStack() as stack:
        if not address:
            address = stack.enter_context(_held(processors))
        # the thread that does this names what it submits as that of the cluster before did
        # and goes on doing: two things of one name abort the process
        with _own_sigterm(), ThreadPoolExecutor(1) as alone:
            alone.submit(ray.init, address=address, **quiet).result()
        stack.callback(ray.shutdown)
        stack.enter_context(_witnessed(ray, address))
        yield ray


@contextlib.contextmanager
def _own_sigterm() -> Iterator[None]:
    """Leave SIGTERM, by which a run pauses, to whom it belongs.

    Ray would print its stack and abort. Python can put a handler back in the main thread
    only, and actors are started in another one.
    """
    system, kept = ctypes.CDLL(None), ctypes.create_string_buffer(512)
    handler = signal.getsignal(signal.SIGTERM)
    system.sigaction(signal.SIGTERM, None, kept)
    try:
        yield
    finally:
        main = threading.current_thread() is threading.main_thread()
        if main and handler is not None:
            signal.signal(signal.SIGTERM, handler)
        system.sigaction(signal.SIGTERM, kept, None)


@contextlib.contextmanager
def _held(processors: int | None) -> Iterator[str]:
    """Start a cluster on this machine and give its address."""
    here: dict[str, Any] = {"_node_ip_address": "127.0.0.1", "include_dashboard": False}
    if processors is not None:
        here["num_cpus"] = processors
    holder = subprocess.Popen(
        [sys.executable, "-c", _HOLD, json.dumps(here)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,  # Ctrl-C is the run's: it pauses and then ends this
    )
    assert holder.stdin is not None and holder.stdout is not None
    with holder.stdout:
        try:
            address = holder.stdout.readline().strip()
            if not address:
                code = holder.wait(_PATIENCE)
                raise RuntimeError(
                    f"Ray has not started, exit code {code}; what it said is above"
                )
            yield address
        finally:
            holder.stdin.close()
            try:
                holder.wait(_PATIENCE)
            except subprocess.TimeoutExpired:
                holder.kill()
                holder.wait()


@contextlib.contextmanager
def _witnessed(ray: Any, address: str) -> Iterator[None]:
    """Have another process say that the cluster took this one with it, should it."""
    here = ray.get_runtime_context().get_node_id()
    node = next(each for each in ray.nodes() if each["NodeID"] == here)
    of_node = node["NodeManagerAddress"], node["NodeManagerPort"]
    host, port = ray.get_runtime_context().gcs_address.rsplit(":", 1)
    witness = subprocess.Popen(
        [
            *(sys.executable, "-I", "-S", "-c", _WITNESS),
            json.dumps([of_node, (host, int(port))]),
            _GONE.format(address),
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
    )
    try:
        yield
    finally:
        witness.communicate("well")


def import_path() -> str:
    """Return PYTHONPATH for what runs on Ray: it imports whatever can be imported here."""
    root = str(Path(__file__).parents[2])  # where optix is
    return os.pathsep.join([root, *(os.path.abspath(path) for path in sys.path)])
