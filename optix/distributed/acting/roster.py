"""Who works: what each actor was asked for, who is silent, who is replaced."""

import itertools
import time
import warnings
from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np

from optix.distributed.acting.actor import Rollout, fault
from optix.distributed.acting.engines import Engine, Failed

_START = 120.0  # seconds that an actor may take more for its first answer
_POLL = 0.2


class ActorsFailedError(RuntimeError):
    """Actors have failed more often than they may."""


class Settings(NamedTuple):
    """How actors work; see `optix.distributed.acting.learner.actors`."""

    num_actors: int
    lockstep: int | None
    max_lag: int
    deadline: float
    max_restarts: int
    steps: int  # of an actor's part of a window
    name: str  # of the environment


class Answer(NamedTuple):
    """What a job came to."""

    job: int
    actor: int
    outcome: Any


class _Job(NamedTuple):
    actor: int
    since: float
    call: tuple[Any, ...]

    @property
    def plays(self) -> bool:
        return self.call[0] == "rollout"


class Roster:
    """Actors at work, from their start to their end.

    steps, dropped, restarts: [num_actors], environment steps played, those thrown away,
      and how often each was replaced.
    """

    def __init__(self, engine: Engine, settings: Settings, expected: Rollout):
        """Begin with actors that are about to start."""
        count = settings.num_actors
        self._engine, self._settings, self._expected = engine, settings, expected
        self._numbers = itertools.count(1)
        self._jobs: dict[int, _Job] = {}
        self._generations = [0] * count
        self._clock = 0.0  # seconds of listening: none is silent while nobody listens
        self._heard = [_START] * count
        self._answered = False  # by anybody, ever
        self._raised = [""] * count  # by the latest actor, nothing of one that did not
        self.steps, self.dropped, self.restarts = np.zeros((3, count), int)

    def share(self, tree: Any) -> Any:
        """Return what calls are given in its place."""
        return self._engine.share(tree)

    def ask(self, actor: int, *call: Any) -> int:
        """Ask an actor for a job and return its number."""
        job = next(self._numbers)
        self._send(job, _Job(actor, self._clock, call))
        return job

    def forget(self, jobs: Iterable[int]) -> None:
        """Let nobody hear what these come to."""
        for job in jobs:
            self._jobs.pop(job, None)

    def hear(self) -> list[Answer]:
        """Wait a moment; return what came that is right, replace who has failed.

        What an actor was asked for that has failed, the one in its place is asked for.

        Raises:
          ActorsFailedError: it happened too often.
        """
        answers, began = [], time.monotonic()
        outcomes = self._engine.wait(_POLL) if self._jobs else []
        self._clock += time.monotonic() - began
        for (job, actor, generation), outcome in outcomes:
            if generation != self._generations[actor]:
                continue  # of one that has been replaced
            self._heard[actor] = self._clock
            asked = self._jobs.get(job)
            if asked is None:
                continue
            if reason := self._wrong(asked, outcome):
                raised = outcome.raised if isinstance(outcome, Failed) else ""
                self._replace(actor, reason, raised)
                continue
            self._answered = True
            del self._jobs[job]
            if asked.plays:
                self.steps[actor] += self._settings.steps
            answers.append(Answer(job, actor, outcome))
        for actor in self._silent():
            self._replace(
                actor,
                f"no answer in {self._settings.deadline:g} s, its deadline, which a part "
                "of a window and its episodes of a score must not exceed",
            )
        return answers

    def _send(self, job: int, asked: _Job) -> None:
        self._jobs[job] = asked
        label = (job, asked.actor, self._generations[asked.actor])
        self._engine.submit(asked.actor, label, *asked.call)

    def _wrong(self, asked: _Job, outcome: Any) -> str | None:
        if isinstance(outcome, Failed):
            return outcome.reason
        # a score that is not finite is the loop's to judge
        return fault(outcome, self._expected) if asked.plays else None

    def _silent(self) -> list[int]:
        """Return who has said nothing for too long."""
        now, since = self._clock, dict[int, float]()
        for job in self._jobs.values():
            since[job.actor] = min(job.since, since.get(job.actor, now))
        limit = self._settings.deadline
        return [a for a, t in since.items() if now - max(t, self._heard[a]) > limit]

    def _again(self, actor: int, raised: str) -> bool:
        """Return whether the one before it raised the same, and nobody ever answered.

        Then it is neither chance nor what was played: one more would raise it too.
        """
        before, self._raised[actor] = self._raised[actor], raised
        return raised == before != "" and not self._answered

    def _replace(self, actor: int, reason: str, raised: str = "") -> None:
        """Put another actor in the place of one, with all that it was asked for."""
        limit = self._settings.max_restarts
        self.restarts[actor] += 1
        restarts = int(self.restarts.sum())
        said = f"actor {actor} of {self._settings.name} failed: {reason}"
        if self._again(actor, raised):
            raise ActorsFailedError(
                f"{said}\nso did the one in whose place it was, before any actor had "
                "played or scored anything, and another one would too; see that the "
                "environment can be made, reset and stepped by itself"
            )
        if restarts > limit:
            raise ActorsFailedError(
                f"actors have failed {restarts} times, and max_restarts is {limit}; the "
                f"last: {said}"
            )
        warnings.warn(
            f"{said}\nit is replaced ({restarts} of at most {limit} times)",
            RuntimeWarning,
            stacklevel=2,
        )
        self._generations[actor] += 1
        self._engine.restart(actor, self._generations[actor])
        self._heard[actor] = self._clock + _START
        for job, asked in list(self._jobs.items()):
            if asked.actor == actor:
                self.dropped[actor] += self._settings.steps * asked.plays
                self._send(job, asked)
