"""A population: complete autonomous runs in places, as one run.

A round plays a round of every member that trains, keeps the best policy of all, and asks
the meta-controller about members that train no more. Members are states of the loop
itself: `Loop.step` trains them, `Loop.restart` begins them, `Loop.finish` scores them.
"""

from collections.abc import Iterable, Mapping
from typing import Any, cast

import jax
import jax.numpy as jnp

from optix import checks
from optix.loop.curve import initial_curve
from optix.loop.until_stopped import until_stopped
from optix.math.regime import Regime
from optix.population.decisions import Parts
from optix.population.finish import finish
from optix.population.meta import MetaController, meta_controller
from optix.population.round import step
from optix.population.spawning import REACHES, reach_of
from optix.population.state import Origins, PopulationState, ended, joined, parted
from optix.trees import repeat, take
from optix.tuners.space import space
from optix.types import (
    MAX_INT32,
    Limits,
    Loop,
    LoopState,
    Phase,
    Progress,
    StopReason,
    Tuner,
)


def population(
    loop: Loop,
    max_policies: int = 4,
    *,
    meta: MetaController | None = None,
    bounds: Mapping[str, tuple[float, float]] | None = None,
    first_policies: int = 1,
    max_spawns: int = 8,
    patience: int | None = None,
    reach: Iterable[tuple[float, float]] = REACHES,
    max_rounds: int | None = None,
    max_env_steps: int | None = None,
    target_score: float | None = None,
    in_turn: bool = True,
) -> Loop:
    """Return the autonomous run of a population of runs, a `Loop` like any other.

    It begins with one run of the loop. Where that goes dormant, a new one begins near the
    best policy: its weights are drawn towards fresh ones, its hyperparameters moved in
    their box. Each one in a row that brings nothing makes the next begin further out, at
    last with fresh weights anywhere in the box. A member that trains no more keeps its
    place, and its policy counts, until the place is needed.

    Members go in turn: only those that train cost anything, a free place and a finished
    member nothing, whatever `max_policies` is. Under vmap over seeds a round has as many
    turns as the seed with most members in training needs, and a decision costs all seeds
    what it costs one, in the rounds in which any has one to make. Each place holds a
    member's whole state, an off-policy replay included.

    A member has the budgets of its loop (`max_rounds` of `loop`), the population has its
    own. The state has one more: `max_spawns`, traced as `limits` are.

    Args:
      loop: of each member; its learner must be one of JAX.
      max_policies: places. Who finds none free takes that of the lowest score.
      meta: what decides where a member goes dormant; None for `meta_controller()`.
      bounds: {name: (low, high)} of the hyperparameters that spawns move; None takes
        those of the loop's tuner, {} moves none.
      first_policies: members of the beginning, each with fresh weights.
      max_spawns: members after these.
      patience: members in a row that bring nothing, after which no other is spawned.
        None for no such limit.
      reach: pairs (share of fresh weights, width of the box), the first for a spawn after
        a success, the next after a failure, and so on; the last stays. A share of 1 is a
        fresh policy with a fresh replay, a width of 1 anywhere in the box.
      max_rounds: of the population, None for as many as all members can have.
      max_env_steps: of all members together, those that left included.
      target_score: that ends the run where a member reaches it.
      in_turn: False steps all places at once, which a GPU may do faster; then free ones
        cost what the others do.

    Raises:
      ValueError: sizes below one, more first policies than places, names that the loop
        does not have, a loop whose agent is outside JAX.

    >>> import optix
    >>> small = dict(num_envs=2, num_steps=4, hidden=(4,))
    >>> run = population(optix.make("CartPole-v1", **small), max_policies=3)
    >>> jax.eval_shape(run.init, jax.random.key(0)).alive.shape
    (3,)
    """
    checks.record("loop", loop, Loop, "make it by optix.make(...) or loop(...)")
    learner = loop.learner
    if learner.host is not None and learner.agent is None:
        raise checks.OptionError(
            "a population mixes the weights of policies, so its learner must be one of "
            f"JAX, got one whose agent is outside ({type(learner.host).__name__}); take "
            "an Agent, or several agents in an EnsembleAgent"
        )
    checks.positive_int("max_policies", max_policies)
    checks.positive_int("first_policies", first_policies, 1, max_policies)
    checks.positive_int("max_spawns", max_spawns, 0)
    patience = MAX_INT32 if patience is None else patience
    checks.positive_int("patience", patience)
    checks.boolean("in_turn", in_turn)
    meta = meta_controller() if meta is None else meta
    checks.record("meta", meta, MetaController, "call meta_controller(...)")
    shapes = jax.eval_shape(loop.init, jax.random.key(0))
    bounds = loop.tuner.bounds if bounds is None else checks.bounds(bounds)
    checks.known_names("hyperparameter of bounds", bounds, shapes.best.hyperparams)
    parts = Parts(
        loop=loop,
        places=max_policies,
        first=first_policies,
        meta=meta,
        box=space(bounds) if bounds else None,
        reach=reach_of(reach),
        patience=patience,
        in_turn=in_turn,
    )
    limits = _limits(max_rounds, max_env_steps, target_score)

    @jax.jit  # else `best` would alias the policy of its member
    def init(key, hyperparams=None):
        """Return the population before its first round; its first member is the loop's."""
        own_key = jax.random.fold_in(key, MAX_INT32)
        others = jax.random.split(own_key, max_policies - 1)
        # one after another: some initialisers deadlock under vmap
        members = jax.lax.map(
            lambda key: loop.init(key, hyperparams),
            jnp.concatenate([key[None], others]),
        )
        return begin(
            parts, members, limits(take(members, 0), max_spawns), own_key, max_spawns
        )

    @jax.jit
    def restart(state, policy, hyperparams, key):
        """Return a new population from a policy, with the same budgets."""
        run_key, own_key = jax.random.split(key)
        source = take(joined(state), 0)
        member = loop.restart(source, policy, hyperparams, run_key)
        members = repeat(member, max_policies)
        one = parts._replace(first=1)
        return begin(one, members, state.limits, own_key, state.max_spawns)

    def play(state):
        return step(parts, state)

    end = lambda state: finish(parts, state)  # noqa: E731
    played = until_stopped(cast(Any, lambda state: play(state)[0]))
    return Loop(
        init=cast(Any, init),
        step=cast(Any, play),
        run=cast(Any, lambda state: end(cast(Any, played(state)))),
        finish=cast(Any, end),
        restart=restart,
        score=loop.score,
        learner=learner,
        tuner=_of_the_best(max_policies, bounds),
    )


def begin(
    parts: Parts,
    members: LoopState,
    limits: Limits,
    key: jax.Array,
    max_spawns: jax.Array | int,
) -> PopulationState:
    """Return the population of the first members [P, ...]; the other places are free."""
    places = parts.places
    alive = jnp.arange(places) < parts.first
    stopped = ended(members, StopReason.SETTLED)
    members = members._replace(
        stop_reason=jnp.where(alive, members.stop_reason, stopped.stop_reason),
        progress=jax.tree.map(
            lambda a, b: jnp.where(alive, a, b), members.progress, stopped.progress
        ),
    )
    curve, curve_stride = initial_curve()
    best = take(members.best, 0)
    zeros = jnp.zeros(places, jnp.int32)
    return PopulationState(
        key=key,
        **cast(Any, parted(members)),
        alive=alive,
        origins=Origins(
            zeros - 1, zeros, zeros, jnp.full(places, -jnp.inf, jnp.float32)
        ),
        boosts=jnp.ones((len(Regime), places), jnp.float32),
        regime=jnp.int32(Regime.RANGING),
        tuner=dict(best.hyperparams),
        best=best,
        spawns=jnp.int32(0),
        max_spawns=jnp.int32(max_spawns),
        barren=jnp.int32(0),
        curve=curve,
        curve_stride=curve_stride,
        limits=limits,
        round=jnp.int32(0),
        env_steps=jnp.int32(0),
        progress=Progress(jnp.int32(Phase.ACTIVE), jnp.int32(0), jnp.int32(0)),
        stop_reason=jnp.int32(StopReason.RUNNING),
    )


def _limits(max_rounds, max_env_steps, target_score):
    """Return `(member, max_spawns) -> Limits` of the population."""
    if max_rounds is not None:
        checks.positive_int("max_rounds", max_rounds)
    if max_env_steps is not None:
        checks.positive_int("max_env_steps", max_env_steps)
    if target_score is not None:
        infinity = float("inf")
        checks.within("target_score", target_score, -infinity, infinity)

    def limits(member, max_spawns):
        own = member.limits
        rounds = own.max_rounds
        if max_rounds is not None:
            rounds = jnp.int32(max_rounds)
        else:
            # one after another; more than there are numbers is no limit
            longest = MAX_INT32 // (1 + max_spawns)
            rounds = jnp.where(
                rounds > longest, MAX_INT32, rounds * (1 + max_spawns)
            ).astype(jnp.int32)
        steps = MAX_INT32 if max_env_steps is None else max_env_steps
        target = own.target_score
        if target_score is not None:
            target = jnp.float32(target_score)
        return Limits(rounds, jnp.int32(steps), target)

    return limits


def _of_the_best(places: int, bounds: Mapping[str, tuple[float, float]]) -> Tuner:
    """Return what tells a driver the hyperparameters that a population hands over."""

    def init(base, key):
        del key
        return dict(base)

    def ask(state):
        return repeat(state, places)

    def tell(state, signals, key):
        del signals, key
        return state, jnp.arange(places, dtype=jnp.int32)

    return Tuner(places, bounds, init, ask, tell, centre=lambda state: state)
