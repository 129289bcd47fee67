"""The parts of windows that are played for one stream of experience."""

from typing import NamedTuple

from optix.distributed.acting.actor import Rollout


class Part(NamedTuple):
    """What one actor played."""

    actor: int
    version: int  # of the policy that played
    rollout: Rollout


class Line:
    """A stream: what is under way and what is ready.

    seed: of its episodes.
    version: of the policy that learns from it, which each window counts up.
    """

    def __init__(self, seed: int, actors: int):
        """Nothing is under way."""
        self.seed, self.version = seed, -1
        # of each actor, the oldest first, until they are taken: version by job
        self._jobs: list[dict[int, int]] = [{} for _ in range(actors)]
        self._ready: dict[int, Part] = {}  # by job, in the order in which they came

    def lacking(self, ahead: int) -> list[int]:
        """Return who has fewer than so many under way or ready, once for each."""
        turns = [(n, actor) for n in range(ahead) for actor in range(len(self._jobs))]
        return [actor for n, actor in turns if n >= len(self._jobs[actor])]

    def ask(self, actor: int, job: int) -> None:
        """Remember what an actor was asked for, to play by the policy of now."""
        self._jobs[actor][job] = self.version

    def came(self, job: int, actor: int, rollout: Rollout) -> None:
        """Take what it gave."""
        self._ready[job] = Part(actor, self._jobs[actor][job], rollout)

    def under_way(self) -> list[int]:
        """Return the jobs that are not ready."""
        return [j for jobs in self._jobs for j in jobs if j not in self._ready]

    def in_turn(self) -> list[Part]:
        """Return the oldest part of each actor, in their order, once all are there."""
        oldest = [next(iter(jobs)) for jobs in self._jobs if jobs]
        if len(oldest) < len(self._jobs) or not self._ready.keys() >= set(oldest):
            return []
        return [self._taken(job) for job in oldest]

    def first(self) -> Part | None:
        """Return what came first, None if nothing is there."""
        job = next(iter(self._ready), None)
        return None if job is None else self._taken(job)

    def _taken(self, job: int) -> Part:
        part = self._ready.pop(job)
        del self._jobs[part.actor][job]
        return part
