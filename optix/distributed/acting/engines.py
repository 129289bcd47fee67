"""Where actors run: in turn, in threads, or on Ray."""

import collections
import contextlib
import functools
import os
import queue
import threading
import time
import traceback
import warnings
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import jax

from optix import checks
from optix.distributed.cluster import import_path, joined_ray
from optix.types import PyTree

_GRACE = 10.0  # seconds that actors have to end


class Failed(NamedTuple):
    """What became of a job whose actor raised or died."""

    reason: str
    raised: str = ""  # the exception and its message, nothing of what was not raised


def failed(error: BaseException, reason: str) -> Failed:
    """Return what becomes of a job that raised."""
    return Failed(reason, "".join(traceback.format_exception_only(error)))


class Engine(Protocol):
    """So many actors, each of which does one job after another."""

    def share(self, tree: PyTree) -> Any:
        """Return what jobs are given in place of NumPy arrays that all need."""
        ...

    def submit(self, actor: int, job: Any, method: str, *arguments: Any) -> None:
        """Ask an actor for what `wait` calls `job`.

        Arguments may hold what `share` returned.
        """
        ...

    def wait(self, seconds: float) -> list[tuple[Any, Any]]:
        """Return (job, outcome) of jobs that are done; waits for one at most so long."""
        ...

    def restart(self, actor: int, generation: int) -> None:
        """Put another actor in the place of one; its jobs are forgotten."""
        ...

    def close(self) -> None:
        """End all actors."""
        ...


class Inline:
    """In this thread, in the order in which they were asked."""

    def __init__(self, make: Callable[[int, int], Any], count: int):
        """Make the actors by `make(index, generation)` when they are first asked."""
        self._make = make
        self._generations = [0] * count
        self._actors: dict[int, Any] = {}
        self._jobs: collections.deque = collections.deque()

    def share(self, tree: PyTree) -> Any:
        """Place it on the CPU."""
        return on_cpu(tree)

    def submit(self, actor: int, job: Any, method: str, *arguments: Any) -> None:
        """Remember it."""
        self._jobs.append((actor, job, method, arguments))

    def wait(self, seconds: float) -> list[tuple[Any, Any]]:
        """Do the next job."""
        actor, job, method, arguments = self._jobs.popleft()
        try:
            if actor not in self._actors:
                self._actors[actor] = self._make(actor, self._generations[actor])
            return [(job, getattr(self._actors[actor], method)(*arguments))]
        except (Exception, SystemExit) as error:  # not Ctrl-C, which is the learner's
            return [(job, failed(error, traceback.format_exc()))]

    def restart(self, actor: int, generation: int) -> None:
        """Close and forget it."""
        if actor in self._actors:
            self._actors.pop(actor).close()
        self._generations[actor] = generation
        self._jobs = collections.deque(j for j in self._jobs if j[0] != actor)

    def close(self) -> None:
        """Close and forget all."""
        while self._actors:
            self._actors.popitem()[1].close()
        self._jobs.clear()


class Threads:
    """Each in a thread: for environments that let go of Python's lock, or wait."""

    def __init__(self, make: Callable[[int, int], Any], count: int):
        """Start the threads."""
        self._make = make
        self._done: queue.Queue = queue.Queue()
        self._threads: dict[int, threading.Thread] = {}
        self._inboxes = [self._start(index, 0) for index in range(count)]

    def share(self, tree: PyTree) -> Any:
        """Place it on the CPU."""
        return on_cpu(tree)

    def submit(self, actor: int, job: Any, method: str, *arguments: Any) -> None:
        """Put it into the actor's inbox."""
        self._inboxes[actor].put((job, method, arguments))

    def wait(self, seconds: float) -> list[tuple[Any, Any]]:
        """Wait for one."""
        try:
            return [self._done.get(timeout=seconds)]
        except queue.Empty:
            return []

    def restart(self, actor: int, generation: int) -> None:
        """Leave the thread to itself: it ends after its job, if that ever ends."""
        _end(self._inboxes[actor])
        self._inboxes[actor] = self._start(actor, generation)

    def close(self) -> None:
        """Let the threads end; Python aborts where one computes when it exits."""
        for inbox in self._inboxes:
            _end(inbox)
        limit = time.monotonic() + _GRACE
        for thread in self._threads.values():
            thread.join(max(limit - time.monotonic(), 0.0))

    def _start(self, actor: int, generation: int) -> queue.Queue:
        inbox: queue.Queue = queue.Queue()
        arguments = (self._make, actor, generation, inbox, self._done)
        name = f"optix-actor-{actor}"
        thread = threading.Thread(target=_work, args=arguments, name=name, daemon=True)
        thread.start()
        self._threads[actor] = thread
        return inbox


def _end(inbox: queue.Queue) -> None:
    """Let a thread end when it has done what it is doing."""
    with contextlib.suppress(queue.Empty):
        while True:
            inbox.get_nowait()
    inbox.put(None)


def _work(make, index, generation, inbox, done) -> None:
    actor = None
    while (job := inbox.get()) is not None:
        number, method, arguments = job
        try:
            actor = actor or make(index, generation)
            outcome = getattr(actor, method)(*arguments)
        except BaseException as error:  # also sys.exit, which would end the thread
            outcome = failed(error, traceback.format_exc())
        done.put((number, outcome))
    if actor is not None:
        actor.close()


class Ray:
    """Each a process of Ray: of this machine, or of the cluster at RAY_ADDRESS."""

    def __init__(self, make: Callable[[int, int], Any], count: int):
        """Start or join the cluster, and the actors."""
        with contextlib.ExitStack() as stack:
            self._ray = stack.enter_context(joined_ray("engine='ray'", count))
            there = int(self._ray.cluster_resources().get("CPU", 0))
            if there < count:
                warnings.warn(
                    f"Ray's cluster has {there} processors, and each of the {count} "
                    "actors needs one; those without are waited for and never answer: "
                    "take fewer actors, or a larger cluster",
                    RuntimeWarning,
                    stacklevel=2,
                )
            self._make = self._sent(make)
            self._left = stack.pop_all()
        # compiled as here, but for one thread
        flags = [os.environ.get("XLA_FLAGS", ""), "--xla_cpu_multi_thread_eigen=false"]
        variables = {
            "JAX_PLATFORMS": "cpu",
            "XLA_FLAGS": " ".join([*flags, "intra_op_parallelism_threads=1"]),
            "PYTHONPATH": import_path(),
        }
        self._kind = self._ray.remote(
            num_cpus=1, max_restarts=0, runtime_env={"env_vars": variables}
        )(_Remote)
        self._actors = [self._kind.remote(self._make, n, 0) for n in range(count)]
        self._jobs: dict[Any, tuple[int, Any]] = {}

    def share(self, tree: PyTree) -> Any:
        """Put it into the object store, once."""
        return self._ray.put(tree)

    def submit(self, actor: int, job: Any, method: str, *arguments: Any) -> None:
        """Send it."""
        reference = self._actors[actor].call.remote(method, *arguments)
        self._jobs[reference] = actor, job

    def wait(self, seconds: float) -> list[tuple[Any, Any]]:
        """Wait for one; others that are done come with it."""
        going = list(self._jobs)
        ready, _ = self._ray.wait(going, num_returns=1, timeout=seconds)
        if ready:
            ready, _ = self._ray.wait(going, num_returns=len(going), timeout=0)
        return [(self._jobs.pop(one)[1], self._outcome(one)) for one in ready]

    def restart(self, actor: int, generation: int) -> None:
        """Kill it and start another one."""
        self._jobs = {r: job for r, job in self._jobs.items() if job[0] != actor}
        self._ray.kill(self._actors[actor])
        self._actors[actor] = self._kind.remote(self._make, actor, generation)

    def close(self) -> None:
        """Kill the actors, and end the cluster if it was started here."""
        if self._ray.is_initialized():  # or nothing is left to end
            for reference in self._jobs:
                self._ray.cancel(reference)  # if nobody has begun it
            closing = [actor.close.remote() for actor in self._actors]
            self._ray.wait(closing, num_returns=len(closing), timeout=_GRACE)
            for actor in self._actors:
                self._ray.kill(actor)
        self._actors, self._jobs = [], {}
        self._left.close()

    def _sent(self, make: Callable[[int, int], Any]) -> Any:
        """Put what makes actors into the object store."""
        try:
            return self._ray.put(make)
        except TypeError as error:  # Ray's account of it has pages
            raise checks.OptionError(
                "environment and agent must be what Ray can send to other processes, got "
                f"one that holds what it can not ({error.__cause__ or error}); make that "
                "in the function that makes the environment, or take engine='threads'"
            ) from error

    def _outcome(self, reference: Any) -> Any:
        errors = self._ray.exceptions
        try:
            return self._ray.get(reference)
        except errors.RayTaskError as error:  # what was raised there, and where
            return failed(error.cause, str(error))
        except errors.RayError as error:
            return Failed(f"{type(error).__name__}: {str(error).strip()}")


class _Remote:
    """An actor in a process of Ray."""

    def __init__(self, make: Callable[[int, int], Any], index: int, generation: int):
        # a step waits for its action: another thread would have to be woken, and then this
        jax.config.update("jax_cpu_enable_async_dispatch", False)
        self._made = functools.cache(functools.partial(make, index, generation))

    def call(self, method: str, *arguments: Any) -> Any:
        # made here, so that what it raises arrives as what its jobs raise
        return getattr(self._made(), method)(*arguments)

    def close(self) -> None:
        if self._made.cache_info().currsize:
            self._made().close()


def on_cpu(tree: PyTree) -> PyTree:
    """Return arrays on the CPU, where actors act."""
    return jax.device_put(tree, jax.local_devices(backend="cpu")[0])


ENGINES = {"inline": Inline, "threads": Threads, "ray": Ray}
