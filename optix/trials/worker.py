"""A worker: plays the trials of a study in slots until none are left."""

import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np

from optix.callbacks.base import Rounds
from optix.run.pause import Watch
from optix.run.programs import rows
from optix.trials.leases import Lease
from optix.trials.loops import Loops, Static
from optix.trials.slots import Slots
from optix.trials.states import Kept, States
from optix.trials.study import Study, root, settings
from optix.types import MAX_INT32, LoopState, StopReason

POLL, LOOK = 0.5, 5.0  # seconds between two looks: at waiting trials, at other workers
_BROKEN = (
    StopReason.NON_FINITE,
    StopReason.NON_FINITE_DATA,
    StopReason.NON_FINITE_SCORE,
)


class Live(NamedTuple):
    """A trial that is being played."""

    trial: Any  # optuna.Trial
    static: Static
    slot: int
    played: int  # rounds
    scores: np.ndarray  # [seeds] of each run's last report, NaN where none
    told: tuple[Rounds, ...] = ()  # of each dispatch, for the log of runs that are kept


class Worker:
    """Plays trials until none are left.

    Args:
        loops: of the plan.
        slots: trials at once.
        vectorize: whether they run all at once; None does so except on a CPU.
        lease: of this worker.
        watch: says when to leave.
        states: where the best runs are kept, if they are.
        moved: called after each dispatch.
    """

    def __init__(
        self,
        loops: Loops,
        slots: int,
        vectorize: bool | None,
        lease: Lease,
        watch: Watch,
        states: States | None,
        moved: Callable[[], None] = lambda: None,
    ):
        """See the class."""
        self._loops, self._count, self._vectorize = loops, slots, vectorize
        self._lease, self._watch = lease, watch
        self._states, self._moved = states, moved
        self._groups: dict[Static, Slots] = {}
        self._live: list[Live] = []
        self._looked = -np.inf

    def play(self, study: Study) -> None:
        """Play the trials of a study until none is left, or something says to leave."""
        while self._watch.reason is None:
            self._look(study)
            while len(self._live) < self._count and self._start(study):
                pass
            if self._live:
                for static in {live.static for live in self._live}:
                    self._dispatch(study, static)
            elif study.unfinished():  # others play them
                time.sleep(POLL)
            else:
                break
            self._moved()

    def confirms(self, study: Study) -> None:
        """Play confirmations, whose runs are not kept."""
        states, self._states = self._states, None
        try:
            self.play(study)
        finally:
            self._states = states

    def _look(self, study: Study) -> None:
        """Now and then, take over what dead workers have left."""
        if time.monotonic() - self._looked >= LOOK or not self._live:
            self._looked = time.monotonic()
            study.put_back(self._lease)

    def _start(self, study: Study) -> bool:
        """Begin the next trial; return whether there was one."""
        trial = study.take(self._lease)
        if trial is None:
            return False
        plan = self._loops.plan
        try:
            chosen = settings(plan.space, trial.params)
            static = self._loops.static(chosen)
            if static not in self._groups:
                self._groups[static] = Slots(
                    *(self._loops.loop(chosen), self._count, plan.seeds, plan.rounds),
                    self._vectorize,
                )
            slot = self._groups[static].start(
                key_of(plan.seed, trial), self._loops.hyperparams(chosen)
            )
        except Exception as error:  # a configuration that can not be: told, not hidden
            study.fail(trial, _said(error))
            return True
        none = np.full(plan.seeds, np.nan)
        self._live.append(Live(trial, static, slot, 0, none))
        return True

    def _dispatch(self, study: Study, static: Static) -> None:
        """Play the trials of one program until their next report, and judge them."""
        group, every = self._groups[static], self._loops.plan.report_every
        mine = [live for live in self._live if live.static == static]
        others = [live for live in self._live if live.static != static]
        try:
            reports, counts = group.advance(every)
        except Exception as error:  # all of them were in it
            for live in mine:
                study.fail(live.trial, _said(error))
            group.forget()
            self._live = others
            return
        judged = []
        for live in mine:  # all report before any is judged
            scores = np.array(live.scores)
            for seed in range(len(scores)):
                latest = reports.score[live.slot, seed, : counts[live.slot, seed]]
                finite = latest[np.isfinite(latest)]
                if finite.size:
                    scores[seed] = finite.mean()
            told = live.told
            if self._states is not None:
                own = jax.tree.map(lambda x: x[live.slot], reports)  # noqa: B023
                told = (*told, rows(own, counts[live.slot]))
            played = min(live.played + every, self._loops.plan.rounds)
            live = live._replace(played=played, scores=scores, told=told)
            study.report(live.trial, float(scores.mean()), live.played)
            judged.append(live)
        self._live = others
        for live in judged:
            if self._judge(study, group, live):
                self._live.append(live)
            else:
                group.release(live.slot)
        if not any(live.static == static for live in self._live):
            group.forget()

    def _judge(self, study: Study, group: Slots, live: Live) -> bool:
        """End a trial that is over, broken or hopeless; return whether it goes on."""
        trial, reasons = live.trial, group.reasons(live.slot)
        broken = [seed for seed, reason in enumerate(reasons) if reason in _BROKEN]
        if broken:
            which = f"run {broken[0]} of {len(reasons)}: " if len(reasons) > 1 else ""
            why = which + reasons[broken[0]].describe()
            study.fail(trial, why, figures=_figures(group.state(live.slot)))
            return False
        if StopReason.RUNNING not in reasons:
            try:
                self._complete(study, group, live)
            except Exception as error:
                study.fail(trial, _said(error))
            return False
        if study.prunes(trial):
            study.tell(trial, None, _figures(group.state(live.slot)))
            return False
        return True

    def _complete(self, study: Study, group: Slots, live: Live) -> None:
        """Score a trial afresh, keep its runs if they are among the best, and tell."""
        state = group.state(live.slot)
        finished = group.finish(state)
        scores = np.asarray(finished.best.score)
        if not np.isfinite(scores).all():
            why = StopReason.NON_FINITE_SCORE.describe()
            study.fail(live.trial, why, figures=_figures(state))
            return
        score = float(scores.mean())
        if self._states is not None:
            runs = Kept(state, finished, live.told)
            self._states.keep(study, live.trial, score, group, runs)
        study.tell(live.trial, score, {"scores": scores.tolist(), **_figures(state)})
        if self._states is not None:
            self._states.prune(study)


def key_of(seed: int, trial: Any) -> jax.Array:
    """Return the key of a trial, which depends on its number alone.

    That of a confirmation depends on the number of what it confirms, and on how often
    that was done.
    """
    key = jax.random.key(seed)
    if "of" not in trial.user_attrs:
        return jax.random.fold_in(key, root(trial))
    key = jax.random.fold_in(jax.random.fold_in(key, MAX_INT32), trial.user_attrs["of"])
    return jax.random.fold_in(key, trial.user_attrs["repeat"])


def _figures(state: LoopState) -> dict[str, int]:
    return {
        "rounds": int(np.asarray(state.round).sum()),
        "env_steps": int(np.asarray(state.env_steps, np.int64).sum()),
    }


def _said(error: BaseException) -> str:
    text = str(error).strip() or "no message"
    return f"{type(error).__name__}: {text}"
