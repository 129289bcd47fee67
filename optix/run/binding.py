"""How `RLOptimizer` makes a loop of an agent and a pipeline."""

import contextlib
import dataclasses
import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np

from optix import checks
from optix.callbacks.base import PolicySnapshot
from optix.host.learner import host
from optix.loop.diagnostics import diagnostics
from optix.loop.loop import loop
from optix.registry import TUNERS, keywords
from optix.run.score_function import ScoreFunction
from optix.tuners.fixed import fixed
from optix.tuners.trust import trust
from optix.types import MAX_INT32, Learner, Loop, Tuner

SESSION = ("checkpoint_seconds", "memory_every")  # of `train`
_RULES = {  # what a keyword of `loop` is called here
    "rollback": "rollback_on_degradation",
    "dormant_threshold": "dormant_threshold",
    "min_rounds_before_dormant": "min_episodes_before_dormant",
    "max_rounds": "max_episodes",
    "target_score": "target_score",
}
_LOOP = keywords(loop) - {"transforms", "score", *_RULES}
_WATCHED = "diagnostics"  # whether a loop has that transform
_HOST = keywords(host) - {"validation", "directory"}


@dataclasses.dataclass(frozen=True)
class Binding:
    """What all loops of an optimizer have in common.

    optimizer: a `Tuner`, the name of one, or None for fixed hyperparameters.
    judge: what decides in place of the pipeline, or None.
    rules: as `RLOptimizer` calls them; None takes the loop's default, but of
        max_episodes and target_score it means that there is none.
    options: further ones by name, of `loop`, `host` and `train`.
    bounds: {name: (low, high)} of what trials choose from: a tuner by name stays there.
    """

    optimizer: Any
    judge: Any
    rules: Mapping[str, Any]
    options: Mapping[str, Any]
    bounds: Mapping[str, tuple[float, float]] = dataclasses.field(default_factory=dict)

    def __post_init__(self):
        """Check what names and numbers can be checked by themselves."""
        checks.known_names(
            "option of RLOptimizer",
            self.options,
            {*_LOOP, *_HOST, *SESSION, _WATCHED},
        )
        checks.boolean(_WATCHED, self.options.get(_WATCHED, False))
        budget, target = self.rules["max_episodes"], self.rules["target_score"]
        if budget is not None:
            checks.positive_int("max_episodes", budget)
        if target is not None:
            checks.within("target_score", target, -math.inf, math.inf)
        checks.boolean("rollback_on_degradation", self.rules["rollback_on_degradation"])
        for name, minimum in (
            ("dormant_threshold", 1),
            ("min_episodes_before_dormant", 0),
        ):
            if self.rules[name] is not None:
                checks.positive_int(name, self.rules[name], minimum)

    def within(self, max_episodes: Any = None, target_score: Any = None) -> "Binding":
        """Return the same with other budgets where they are given."""
        given = {"max_episodes": max_episodes, "target_score": target_score}
        changed = {name: value for name, value in given.items() if value is not None}
        return dataclasses.replace(self, rules={**self.rules, **changed})

    def budgets(self) -> dict[str, Any]:
        """Return the budgets as `resume` takes them."""
        rounds, target = self.rules["max_episodes"], self.rules["target_score"]
        return {
            "max_rounds": MAX_INT32 if rounds is None else rounds,
            "target_score": math.inf if target is None else target,
        }

    def session(self) -> dict[str, Any]:
        """Return the options of `train` and `resume`."""
        return self._named(SESSION)

    def learner(self, agent: Any, pipeline: Any) -> Learner:
        """Return the learner of an agent at a pipeline.

        Raises:
            TypeError, ValueError: one of the two can not be used so.
        """
        learner = host(agent, pipeline, validation=self.judge, **self._named(_HOST))
        if isinstance(self.judge, ScoreFunction):
            # an agent in JAX has no weights here that the function could change
            release = getattr(learner.host, "release", None)
            self.judge.release = release or (lambda: None)
        return learner

    def loop(self, learner: Learner, agent: Any) -> Loop:
        """Return the loop of a learner, within the present budgets.

        Raises:
            ValueError: the tuner can not tune it.
        """
        rules = {name: self.rules[ours] for name, ours in _RULES.items()}
        given = {name: value for name, value in rules.items() if value is not None}
        return loop(
            learner,
            _tuner(self.optimizer, agent, self.bounds),
            transforms=diagnostics() if self.options.get(_WATCHED) else None,
            **{**given, **self.budgets()},
            **self._named(_LOOP),
        )

    def validated(
        self, snapshot: PolicySnapshot, agent: Any, seed: int
    ) -> PolicySnapshot:
        """Return the snapshot with what a validation that does not decide comes to."""
        if not isinstance(self.judge, ScoreFunction) or self.judge.validation is None:
            return snapshot
        agent.seed(seed)
        episodes = self.options.get("evaluation_episodes", 8)
        score = float(self.judge.validation.evaluate(agent, seed, episodes))
        told = snapshot.eval_metrics
        told = told._replace(metrics={**told.metrics, "validation": score})
        return snapshot._replace(eval_metrics=told)

    def _named(self, names: Iterable[str]) -> dict[str, Any]:
        return {name: self.options[name] for name in names if name in self.options}


class Pipelines:
    """The pipeline of a run, and those of trials.

    given: the main one, None until a factory was asked for it.
    """

    def __init__(self, pipeline: Any, factory: Any):
        """Take a pipeline, or a function that makes one.

        Raises:
            ValueError: neither or both are given, or the factory is no function.
        """
        if (pipeline is None) == (factory is None):
            raise checks.OptionError(
                "RLOptimizer takes pipeline= or pipeline_factory=, got "
                f"{'neither' if pipeline is None else 'both'}"
            )
        if factory is not None:
            checks.function("pipeline_factory", factory, "it takes nothing")
        self.given, self._factory = pipeline, factory

    def main(self) -> Any:
        """Return the one of the run."""
        if self.given is None and self._factory is not None:
            self.given = self._factory()
        return self.given

    @contextlib.contextmanager
    def trial(self) -> Iterator[Any]:
        """Give one for a trial: of its own where there is a factory."""
        if self._factory is None:
            yield self.given
            return
        pipeline = self._factory()
        try:
            yield pipeline
        finally:
            _close(pipeline)

    def close(self) -> None:
        """Close what the factory made; what was handed over is its owner's."""
        if self._factory is not None and self.given is not None:
            _close(self.given)
            self.given = None


def _close(pipeline: Any) -> None:
    if callable(close := getattr(pipeline, "close", None)):
        close()


def _tuner(optimizer: Any, agent: Any, narrower: Mapping[str, Any]) -> Tuner:
    """Return the tuner that is meant.

    One by name takes the bounds that the agent has, and for what trials have chosen of
    its floats, those that they chose from.
    """
    if optimizer is None:
        return fixed()
    if not isinstance(optimizer, str):
        checks.record(
            "optimizer", optimizer, Tuner, "call its factory, as in spsa({...})"
        )
        return optimizer
    checks.known_names("optimizer", [optimizer], TUNERS)
    tunable = agent.get_hyperparams().params
    given = {
        name: ends
        for name, ends in narrower.items()
        if isinstance(tunable.get(name), float | np.floating)
    }
    bounds = {**getattr(agent, "default_param_bounds", {}), **given}
    if optimizer == "trust" and "learning_rate" in given:
        return trust({"learning_rate": given["learning_rate"]})
    if optimizer != "fixed" and not bounds:
        raise checks.OptionError(
            f"optimizer {optimizer!r} by name takes the bounds that an agent has as "
            f"default_param_bounds, and {type(agent).__name__} has none; pass "
            f"optix.tuners.{optimizer}.{optimizer}({{name: (low, high)}})"
        )
    return TUNERS[optimizer](bounds)
