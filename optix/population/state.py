"""The state of a population, and its places as complete runs."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from optix.types import (
    Best,
    Hyperparams,
    LearnerState,
    Limits,
    LoopState,
    Phase,
    Progress,
    StopReason,
)


class Origins(NamedTuple):
    """Where the members come from, [P]."""

    parent: jax.Array  # [P] int32 place of it then, -1 for a fresh policy
    reach: jax.Array  # [P] int32 how far from it
    round: jax.Array  # [P] int32 of the population, in which the member begins
    to_beat: jax.Array  # [P] float32 the best score when it began


class PopulationState(NamedTuple):
    """A whole population: saving this pytree saves it.

    It has the fields by which a driver knows a `LoopState`, so that checkpoints,
    budgets and reports serve both.
    """

    key: jax.Array  # [] PRNG key; what is drawn in a round is folded from it
    learner: LearnerState  # [P, L, ...] of all members; a replay for each place
    members: LoopState  # [P, ...] everything else of them, their `learner` is ()
    alive: jax.Array  # [P] bool: a policy there counts; a place that is not is free
    origins: Origins
    boosts: jax.Array  # [3, P] float32 factors of the weights in each `Regime`
    regime: jax.Array  # [] int32 Regime
    tuner: Hyperparams  # {name: [] float32} of the best policy
    best: Best  # of all members, those that have left included
    spawns: jax.Array  # [] int32 so far
    max_spawns: jax.Array  # [] int32 traced, as the limits are
    barren: jax.Array  # [] int32 members in a row that brought nothing
    curve: jax.Array  # [1024] float32 scores, -inf where none yet
    curve_stride: jax.Array  # [] int32 rounds between two points of the curve
    limits: Limits  # of all members together
    round: jax.Array  # [] int32
    env_steps: jax.Array  # [] int32 of all members together
    progress: Progress  # of the member that is farthest from its end
    stop_reason: jax.Array  # [] int32 StopReason

    @property
    def active(self) -> jax.Array:
        """True while the run goes on, [] bool."""
        return self.stop_reason == StopReason.RUNNING

    @property
    def phase(self) -> jax.Array:
        """The Phase, [] int32."""
        return self.progress.phase


def joined(state: PopulationState) -> LoopState:
    """Return the members as complete runs, [P, ...]; a free place holds a stopped one."""
    return state.members._replace(learner=state.learner)


def parted(members: LoopState) -> dict[str, LoopState | LearnerState]:
    """Return the two fields of a state in which members are kept."""
    return {"learner": members.learner, "members": members._replace(learner=())}


def put(tree, place: jax.Array, row, when: jax.Array | bool = True):
    """Return the tree with `row` at `place` of every leaf's first axis, if `when`."""
    count = jax.tree.leaves(tree)[0].shape[0]
    place = jnp.where(when, place, count)  # out of it is nowhere
    return jax.tree.map(lambda x, y: x.at[place].set(y, mode="drop"), tree, row)


def ended(member: LoopState, reason: jax.Array | int) -> LoopState:
    """Return the run or the runs as stopped for a reason."""
    stopped = member.progress._replace(
        phase=jnp.full_like(member.progress.phase, Phase.STOPPED)
    )
    reasons = jnp.full_like(member.stop_reason, reason)
    return member._replace(progress=stopped, stop_reason=reasons)


def scores_of(state: PopulationState) -> jax.Array:
    """Return the best scores of the members, [P] float32; -inf where none counts."""
    return jnp.where(state.alive, state.members.best.score, -jnp.inf)


def holder(alive: jax.Array, members: LoopState) -> jax.Array:
    """Return the place of the best policy that is there, [] int32."""
    return jnp.argmax(jnp.where(alive, members.best.score, -jnp.inf))
