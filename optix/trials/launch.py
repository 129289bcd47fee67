"""Worker processes of a search: the study is all they share, so any launcher does."""

import contextlib
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

from optix import checks
from optix.distributed.cluster import import_path, joined_ray
from optix.run.pause import Watch
from optix.trials.leases import Lease
from optix.trials.storages import SearchError
from optix.trials.study import Study
from optix.trials.worker import POLL

_PATIENCE = 60.0  # seconds that workers have to come to the end of their rounds


class Crew(Protocol):
    """Workers that were started."""

    def working(self) -> bool:
        """Return whether one of them is at work."""
        ...

    def last_words(self) -> str:
        """Return what the last one said that ended."""
        ...


def checked_workers(workers: Any) -> tuple[str, int] | None:
    """Return ("local" or "ray", how many, 0 for one on each processor); None for none.

    Raises:
        OptionError: it is neither a number nor "ray" or "ray:N".

    >>> checked_workers("ray:4"), checked_workers(2), checked_workers("ray")
    (('ray', 4), ('local', 2), ('ray', 0))
    """
    if workers is None:
        return None
    if isinstance(workers, str):
        found = re.fullmatch(r"(ray)(?::([1-9]\d*))?|([1-9]\d*)", workers)
        if found and found[1]:
            return "ray", int(found[2] or 0)
        if found:
            return "local", int(found[3])
    if isinstance(workers, bool) or not isinstance(workers, int) or workers < 1:
        raise checks.OptionError(
            f"workers must be an integer >= 1, 'ray' or 'ray:N', got {workers!r}"
        )
    return "local", workers


@contextlib.contextmanager
def crew(kind: str, count: int, directory: Path, slots: int | None) -> Iterator[Crew]:
    """Start workers that join a search; they end with it, or with this context."""
    if kind == "ray":
        with _ray(count, directory, slots) as workers:
            yield workers
    else:
        with _local(count, directory, slots) as workers:
            yield workers


def watch_over(
    workers: Crew, study: Study, lease: Lease, watch: Watch, moved: Callable[[], None]
) -> None:
    """Wait until the trials of a study are over, or something says to leave.

    Raises:
        SearchError: no worker is left.
    """
    while study.unfinished() and watch.reason is None:
        study.put_back(lease)
        if not workers.working() and study.unfinished():
            raise SearchError(
                "all workers of the search have ended before its trials; the last one "
                f"said: {workers.last_words()}"
            )
        moved()
        time.sleep(POLL)


class _Processes:
    def __init__(self, processes: Sequence[subprocess.Popen], logs: Sequence[Path]):
        self._processes, self._logs = processes, logs

    def working(self) -> bool:
        return any([process.poll() is None for process in self._processes])

    def last_words(self) -> str:
        codes = [process.returncode for process in self._processes]
        lines = self._logs[-1].read_text(errors="replace").strip().splitlines()
        return f"{lines[-1] if lines else 'nothing'} (exit codes {codes})"


@contextlib.contextmanager
def _local(count: int, directory: Path, slots: int | None) -> Iterator[Crew]:
    """Start processes here, each with a log in the folder of the search."""
    folder = directory / "workers"
    folder.mkdir(exist_ok=True)
    command = [sys.executable, "-m", "optix", "search", "--join", str(directory)]
    command += ["--no-progress", *(() if slots is None else ("--slots", str(slots)))]
    processes, logs = [], []
    try:
        for number in range(count):
            logs.append(folder / f"{number}.log")
            with logs[-1].open("wb") as log:
                processes.append(
                    subprocess.Popen(
                        command, stdin=subprocess.DEVNULL, stdout=log, stderr=log
                    )
                )
        yield _Processes(processes, logs)
    finally:
        _end(processes)


def _end(processes: Sequence[subprocess.Popen]) -> None:
    """Let workers come to the end of what they do, but not for ever."""
    deadline = time.monotonic() + _PATIENCE
    for process in processes:
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout=2 * POLL)  # one whose search is over goes by itself
        if process.poll() is None:
            process.terminate()
    for process in processes:
        try:
            process.wait(timeout=max(deadline - time.monotonic(), 0.1))
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


class _Tasks:
    def __init__(self, ray: Any, tasks: Sequence[Any]):
        self._ray, self._tasks = ray, tasks

    def working(self) -> bool:
        _, going = self._ray.wait(self._tasks, num_returns=len(self._tasks), timeout=0)
        return bool(going)

    def last_words(self) -> str:
        try:
            return str(self._ray.get(self._tasks[-1]))
        except Exception as error:
            return str(error).strip().splitlines()[-1]


@contextlib.contextmanager
def _ray(count: int, directory: Path, slots: int | None) -> Iterator[Crew]:
    """Start the same workers as tasks of Ray, which starts one again that was killed."""
    with joined_ray("workers='ray'") as ray:
        resources = ray.cluster_resources()
        gpus = int(resources.get("GPU", 0))
        count = count or gpus or int(resources["CPU"])
        variables = {"PYTHONPATH": import_path()}
        task = ray.remote(
            num_cpus=1,
            num_gpus=min(1.0, gpus / count),
            max_retries=3,
            runtime_env={"env_vars": variables},
        )(_joined)
        tasks = [task.remote(str(directory), slots) for _ in range(count)]
        try:
            yield _Tasks(ray, tasks)
        finally:
            _, going = ray.wait(tasks, num_returns=len(tasks), timeout=2 * POLL)
            for one in going:
                ray.cancel(one)


def _joined(directory: str, slots: int | None) -> str:
    from optix.trials.search import join_search

    return join_search(directory, slots=slots, progress=False).message
