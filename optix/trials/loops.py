"""The loops of a plan: floats are traced, every other value is a program of its own."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax

from optix import checks
from optix.make import make
from optix.param_space import KINDS
from optix.run.train import recipe_of
from optix.trials.plan import Plan
from optix.types import Loop

Static = tuple[tuple[str, str], ...]  # ((name, value), ...) that a program is made for


class Loops(NamedTuple):
    """Which loop a configuration is played by."""

    plan: Plan
    traced: frozenset[str]  # names of the space that are hyperparameters

    def static(self, settings: Mapping[str, Any]) -> Static:
        """Return the values that are compiled in; others share a program."""
        # in words, since a value may be one that has no hash
        return tuple((n, repr(v)) for n, v in settings.items() if n not in self.traced)

    def hyperparams(self, settings: Mapping[str, Any]) -> dict[str, float]:
        """Return the values that are traced."""
        return {n: float(v) for n, v in settings.items() if n in self.traced}

    def loop(self, settings: Mapping[str, Any]) -> Loop:
        """Return the loop of a configuration.

        Raises:
            OptionError: `optix.make` refuses it.
        """
        if isinstance(self.plan.environment, Loop):
            return self.plan.environment
        agent, options = self._made_by(settings)
        return make(self.plan.environment, agent, **options)

    def recipe(self, settings: Mapping[str, Any]) -> dict[str, Any] | None:
        """Return what rebuilds the loop, None if that takes more than names."""
        if isinstance(self.plan.environment, Loop):
            return None
        agent, options = self._made_by(settings)
        return recipe_of(self.plan.environment, agent, options)

    def _made_by(self, settings: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
        options = {**self.plan.options, **settings}
        if options.get("tuner") is None:  # the rate that is judged is the search's
            options["tuner"] = "fixed"
        return options.pop("agent", self.plan.agent), options


def loops(plan: Plan) -> Loops:
    """Return the loops of a plan, having tried both ends of its space.

    Nothing is compiled.

    Raises:
        OptionError: an option that is unknown, or bounds beyond what it may be.
    """
    unknown = Loops(plan, frozenset())
    low, high = (_end(plan.space, place) for place in (1, -1))
    made = unknown.loop(low)
    state = jax.eval_shape(made.init, jax.random.key(0))
    names = frozenset(state.best.hyperparams)
    if isinstance(plan.environment, Loop):
        checks.known_names("name in the space of a loop", plan.space, names)
    for name in names & plan.space.keys():
        kind, *values = plan.space[name]
        numbers = all(isinstance(v, int | float) for v in values)
        if kind == "categorical" and not numbers:
            raise checks.OptionError(
                f"{name} is a hyperparameter, so its values in the space must be "
                f"numbers, got {plan.space[name]!r} (kinds: {', '.join(KINDS)})"
            )
    unknown.loop(high)
    return Loops(plan, names & plan.space.keys())


def _end(space: Mapping[str, tuple], place: int) -> dict[str, Any]:
    return {name: entry[place] for name, entry in space.items()}
