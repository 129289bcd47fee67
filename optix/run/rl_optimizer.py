"""An agent outside JAX and its pipeline in the autonomous loop, as one object."""

import math
import os
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np

from optix import checks
from optix.callbacks.base import PolicySnapshot, checked
from optix.callbacks.dashboard import RichDashboardCallback
from optix.host.agent import BaseAgent
from optix.run.best import give_best, snapshot_of
from optix.run.binding import Binding, Pipelines
from optix.run.home import Home
from optix.run.pause import Pause, Watch
from optix.run.programs import KeptLoop
from optix.run.relay import Relay, Teller
from optix.run.result import Result
from optix.run.score_function import judge_of
from optix.run.train import resume, train
from optix.run.trials import trials
from optix.trees import take
from optix.types import Learner, Loop, Phase, StopReason


class RLOptimizer:
    """Trains an agent until it says by itself that nothing is left to gain.

    It binds `host(agent, pipeline)` to the loop and plays it by `optix.train` and
    `optix.resume`. An episode of its arguments is a round of the loop: some windows that
    are learned from (`windows_per_round`), and then one score.

    `run` leaves the best weights and hyperparameters in the agent. Called again, it goes
    on where the run was: episodes, replay, optimizer and statistics; its budgets are of
    the whole run. With `checkpoint_dir` another process goes on too, from the last
    checkpoint, given an agent and a pipeline of the same kind: weights, replay and
    statistics are those of the run, whatever the agent came with, and the environments
    begin fresh episodes, of which a warning tells. Without `checkpoint_dir` all that is
    kept for as long as this object lives.

    Where an exception of the agent, the pipeline or the score leaves `run`, the rounds
    before are kept, and the next `run` goes on from them. One of a callback is logged.

    What decides. The score of a round is the mean return of whole episodes that are
    played after the learning. With `val_pipeline` they are played there, with
    `checkpoint_score_fn` the score is `checkpoint_score_fn(agent)`; that score alone
    chooses the best policy, the baseline and a rollback. With both the function decides,
    and what `val_pipeline` comes to is told as the metric "validation". The mean return
    of training is always the metric "return": `EvalMetrics.generalization_gap`.

    Args:
        agent: a `BaseAgent`; it is used, not copied.
        pipeline: collects the windows.
        optimizer: of the hyperparameters: a `Tuner`, such as `spsa({...})`, or its name,
            for an agent with `default_param_bounds`, or with `param_space`, beyond
            whose bounds it does not go then; None leaves them alone.
        val_pipeline: see above.
        checkpoint_score_fn: `(agent) -> float`, see above.
        rollback_on_degradation: go back to the best policy when the scores fall
            consistently.
        dormant_threshold: flat verdicts until DORMANT; None takes the loop's, which stops
            late.
        min_episodes_before_dormant: episodes before which no run goes dormant; None takes
            the loop's.
        target_score: score at which the run is done.
        max_episodes: budget of the whole run; None for none.
        callbacks: `LoopCallback`s.
        checkpoint_dir: folder of the run; one that holds a run is gone on with. None keeps
            nothing behind.
        max_snapshots: how many of the best policies are kept there, at least 2.
        seed: of the random numbers.
        progress: show a progress bar, unless a `RichDashboardCallback` is there.
        verbose: print a line for what happens.
        agent_factory: `(params) -> agent`, in place of `agent`: trials of values from
            `param_space` choose, and the agent of the best one goes on with what it has
            learned, if its `reset` keeps that.
        pipeline_factory: `() -> pipeline`, in place of `pipeline`.
        param_space: {name: (kind, low, high)}, kind of "float", "log_float", "int" and
            "log_int", or ("categorical", *values).
        n_trials: how many, spread evenly over the space.
        trial_episodes: of each.
        **options: further keywords of `host` (evaluation_episodes, metrics, fresh,
            copies), of `loop` (windows_per_round, plateau_threshold, max_env_steps, ...)
            and of `train` (checkpoint_seconds, memory_every); diagnostics=True detects
            faults by those of `metrics` called "loss", "value_loss", "policy_loss" and
            "kl", see `optix.loop.diagnostics`.

    Attributes:
        agent: None until the trials have chosen one.
        pipeline: likewise, of `pipeline_factory`.

    Raises:
        TypeError: `agent` is no `BaseAgent`.
        ValueError: an argument that is unknown, out of range or missing.

    >>> import gymnasium
    >>> from optix.host import BatchPipeline, HyperparamSet
    >>> class Still(BaseAgent):
    ...     def act(self, observation): return 0
    ...     def learn(self, episode_data): return {}
    ...     def get_hyperparams(self): return HyperparamSet({"rate": 0.5})
    ...     def set_hyperparams(self, hyperparams): pass
    ...     def save_weights(self, path): open(path, "w").close()
    ...     def load_weights(self, path): pass
    >>> pipeline = BatchPipeline(gymnasium.make("CartPole-v1"), window_size=20)
    >>> opt = RLOptimizer(
    ...     Still(), pipeline, max_episodes=2, windows_per_round=1, progress=False
    ... )
    >>> opt.run().message, opt.state.name, opt.best_snapshot.hyperparams
    ('the budget of rounds is spent', 'STOPPED', {'rate': 0.5})
    """

    def __init__(
        self,
        agent: BaseAgent | None = None,
        pipeline: Any = None,
        *,
        optimizer: Any = None,
        val_pipeline: Any = None,
        checkpoint_score_fn: Callable[[Any], float] | None = None,
        rollback_on_degradation: bool = True,
        dormant_threshold: int | None = None,
        min_episodes_before_dormant: int | None = None,
        target_score: float | None = None,
        max_episodes: int | None = 500,
        callbacks: Iterable[Any] | None = None,
        checkpoint_dir: str | os.PathLike | None = None,
        max_snapshots: int = 10,
        seed: int = 0,
        progress: bool = True,
        verbose: bool = False,
        agent_factory: Callable[[dict[str, Any]], BaseAgent] | None = None,
        pipeline_factory: Callable[[], Any] | None = None,
        param_space: Mapping[str, tuple] | None = None,
        n_trials: int = 20,
        trial_episodes: int = 50,
        **options: Any,
    ):
        """See the class."""
        self._progress = checks.boolean("progress", progress)
        self._verbose = checks.boolean("verbose", verbose)
        self._seed = checks.positive_int("seed", seed, 0, 2**32 - 1)
        self._max_snapshots = checks.positive_int("max_snapshots", max_snapshots, 2)
        self._callbacks = checked(() if callbacks is None else callbacks)
        judge = judge_of(val_pipeline, checkpoint_score_fn)
        rules = {
            "rollback_on_degradation": rollback_on_degradation,
            "dormant_threshold": dormant_threshold,
            "min_episodes_before_dormant": min_episodes_before_dormant,
            "max_episodes": max_episodes,
            "target_score": target_score,
        }
        search = (param_space, n_trials, trial_episodes, self._seed)
        self._trials = trials(agent, agent_factory, *search)
        bounds = {} if self._trials is None else self._trials.bounds
        self._binding = Binding(optimizer, judge, rules, options, bounds)
        self._pipelines = Pipelines(pipeline, pipeline_factory)
        self._home = Home(checkpoint_dir)
        self._agent = agent
        self._playing, self._pause = threading.Lock(), Pause("run()")
        self._relay: Relay | None = None  # of the run under way
        self._state = Phase.ACTIVE
        self._snapshot: PolicySnapshot | None = None
        self._learner: Learner | None = None
        self._loop: KeptLoop | None = None  # of the run that there is
        if agent is not None:
            self._binding.loop(self._bound()[1], agent)  # a mistake is told at once

    @property
    def agent(self) -> BaseAgent | None:
        """The agent; None until trials have chosen one."""
        return self._agent

    @property
    def pipeline(self) -> Any:
        """The pipeline; of a factory, None until it was asked for one."""
        return self._pipelines.given

    @property
    def state(self) -> Phase:
        """The phase: ACTIVE, COOLING, DORMANT, or STOPPED by anything else.

        A run that has converged is DORMANT. Between two runs it is where the last one
        left off; before the first one it is ACTIVE.
        """
        return self._state if self._relay is None else self._relay.phase

    @property
    def best_snapshot(self) -> PolicySnapshot | None:
        """The best policy so far, None before there is one with a finite score.

        `weights_path` is a path that `agent.load_weights` reads; without `checkpoint_dir`
        it is gone with this object. Of a run under way it is None.
        """
        best = None if self._relay is None else self._relay.best
        return best or self._snapshot

    def add_callback(self, callback: Any) -> None:
        """Tell one more callback, from the next `run` on.

        Raises:
            ValueError: it is a class, or has a hook that no run calls.
        """
        self._callbacks += checked([callback])

    def stop(self, reason: str = "stopped by the caller") -> None:
        """End the run after the rounds that are under way, from any thread or hook.

        `run` goes on from there. Where none is under way, the next one ends before its
        first round.

        Raises:
            ValueError: the reason is not a text, or an empty one.
        """
        self._pause.stop(reason)

    def run(
        self,
        *,
        max_episodes: int | None = None,
        target_score: float | None = None,
        max_seconds: float | None = None,
    ) -> Result:
        """Train until the run has stopped by itself, by `stop` or by a signal.

        Args:
            max_episodes: of the whole run from now on, in place of what was said before.
            target_score: likewise.
            max_seconds: wall clock of this call.

        Raises:
            RuntimeError: it is running.
            RunFolderError: `checkpoint_dir` is in use, or holds something else.
            CheckpointError: the run there is of another agent or configuration.
        """
        Watch(max_seconds)  # a mistake is told before anything is played
        if not self._playing.acquire(blocking=False):
            raise RuntimeError(
                "this RLOptimizer is running; stop() ends the run, and run() goes on"
            )
        try:
            self._binding = self._binding.within(max_episodes, target_score)
            return self._run(max_seconds)
        finally:
            self._pause, self._relay = Pause("run()"), None
            self._playing.release()

    def close(self) -> None:
        """Close what a factory made, and forget a run that is kept nowhere."""
        self._pipelines.close()
        self._home.close()

    def _run(self, max_seconds: float | None) -> Result:
        """Choose an agent if there is none, play, and give the agent what is best."""
        began = time.monotonic()
        if (paused := self._choose(max_seconds)) is not None:
            return paused
        if max_seconds is not None:
            max_seconds = max(max_seconds - (time.monotonic() - began), 1e-3)
        agent, learner = self._bound()
        loop = self._loop_of(learner, agent)
        result = self._played(loop, max_seconds)
        best = take(result.state.best, 0)
        give_best(agent, loop, best)
        if np.isfinite(best.score):
            folder = self._home.path
            snapshot = snapshot_of(agent, best, folder, self._max_snapshots)
            self._snapshot = self._binding.validated(snapshot, agent, self._seed)
        dormant = result.stop_reasons[0] in (StopReason.CONVERGED, StopReason.NO_SIGNAL)
        phase = Phase(int(result.state.progress.phase[0]))
        self._state = Phase.DORMANT if dormant else phase
        return result._replace(directory=None) if self._home.temporary else result

    def _choose(self, max_seconds: float | None) -> Result | None:
        """Let trials choose an agent where none is given; return one that was paused."""
        if self._trials is None or self._agent is not None:
            return None
        chosen = self._home.chosen()
        if chosen is not None:  # by the process that began the run
            self._agent = self._trials.take(chosen)
            return None
        paused = self._trials.run(
            self._binding, self._pipelines, self._pause, max_seconds
        )
        self._agent = self._trials.agent if paused is None else None
        return paused

    def _bound(self) -> tuple[BaseAgent, Learner]:
        """Return the agent and its learner, which stays the same for all runs."""
        assert self._agent is not None
        if self._learner is None:
            self._learner = self._binding.learner(self._agent, self._pipelines.main())
        return self._agent, self._learner

    def _loop_of(self, learner: Learner, agent: BaseAgent) -> Loop:
        """Return the loop of the run; what a next call changes of it are its budgets."""
        if self._loop is None or not self._home.holds_a_run:
            self._loop = KeptLoop(*self._binding.loop(learner, agent))
        return self._loop

    def _played(self, loop: Loop, max_seconds: float | None) -> Result:
        """Begin the run, or go on with it."""
        home, callbacks = self._home, list(self._callbacks)
        dashboard = any(isinstance(c, RichDashboardCallback) for c in callbacks)
        if self._verbose:
            callbacks.insert(0, Teller())
        self._relay = relay = Relay(
            callbacks, self._binding.judge, home.temporary, self._state, self._begins
        )
        options = {
            "callbacks": [relay],
            "pause": self._pause,
            "max_seconds": max_seconds,
            "progress": self._progress and not dashboard,
            **({"checkpoint_seconds": math.inf} if home.temporary else {}),
            **self._binding.session(),
        }
        try:
            if home.holds_a_run:
                return resume(home.path, loop, **options, **self._binding.budgets())
            return train(
                loop,
                seed=self._seed,
                directory=home.path,
                max_snapshots=self._max_snapshots,
                **options,
            )
        except BaseException:
            self._state, self._snapshot = relay.phase, relay.best or self._snapshot
            raise

    def _begins(self) -> None:
        """Keep what trials have chosen beside the run."""
        if self._trials is not None and self._trials.params is not None:
            self._home.note_trials(self._trials.params)
