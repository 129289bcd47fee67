"""Running a loop from the host: compiled programs and their reports."""

import contextlib
import functools
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jax.sharding import Mesh

from optix.callbacks.base import Rounds
from optix.distributed.mesh import over_mesh
from optix.run.description import check_budgets
from optix.types import Loop, LoopState, Phase, PyTree, StepReport, StopReason

CAPACITY = 64  # rounds of one dispatch whose reports are kept
_TWICE = 2**28  # bytes of a replay that may be there twice


class Programs(NamedTuple):
    """The compiled functions of a run over S seeds.

    init: `(keys [S], hyperparams {name: [S]} = None) -> state [S, ...]`.
    advance: `(state, count) -> (state, reports [S, CAPACITY], rounds [S])`: at most
        `count` more rounds of every seed that has not stopped; only the first `rounds`
        reports of a seed mean anything. `state` is donated unless the learner has a
        part on the host, and no large replay. The rounds are the same whatever `count` is.
    finish: `(state) -> state`.
    shrinks: whether a smaller batch of seeds costs less, by any S of `advance`.
    checksums: `(state) -> [S, D] uint32` of what devices must have alike, None on one.
    placed: `(shapes of a state) -> shapes` that say on which devices it is.
    """

    init: Callable[..., LoopState]
    advance: Callable[..., tuple[LoopState, StepReport, jax.Array]]
    finish: Callable[[LoopState], LoopState]
    shrinks: bool
    checksums: Callable[[LoopState], jax.Array] | None = None
    placed: Callable[[PyTree], PyTree] = lambda shapes: shapes


class KeptLoop(Loop):
    """A loop that keeps its programs: who plays it again compiles nothing again."""

    @functools.cached_property
    def programs(self) -> dict[bool, Programs]:
        """What was made so far, {vectorize: programs}."""
        return {}


def programs(loop: Loop, vectorize: bool, mesh: Mesh | None = None) -> Programs:
    """Return the programs of a loop.

    Args:
        loop: without a part on the host where there is a mesh.
        vectorize: map over the seeds of a device all at once, not one after another.
        mesh: of `optix.distributed.mesh`; None for one device.
    """
    if mesh is not None or not isinstance(loop, KeptLoop):
        return _programs(loop, vectorize, mesh)
    if vectorize not in loop.programs:
        loop.programs[vectorize] = _programs(loop, vectorize)
    return loop.programs[vectorize]


def _programs(loop: Loop, vectorize: bool, mesh: Mesh | None = None) -> Programs:

    def turns(step, state, count):
        """Play rounds while any seed is active; reports are [CAPACITY, ...]."""
        shapes = jax.eval_shape(step, state)[1]
        reports = jax.tree.map(
            lambda leaf: jnp.zeros((CAPACITY, *leaf.shape), leaf.dtype), shapes
        )

        def goes_on(carry):
            turn, state, _ = carry
            return (turn < count) & jnp.any(state.active)

        def play(carry):
            turn, state, reports = carry
            state, report = step(state)
            reports = jax.tree.map(
                lambda rows, row: rows.at[turn].set(row), reports, report
            )
            return turn + 1, state, reports

        _, state, reports = jax.lax.while_loop(
            goes_on, play, (jnp.int32(0), state, reports)
        )
        return state, reports

    def advance(state, count):
        count = jnp.minimum(count, CAPACITY)
        before = state.round
        if vectorize:
            state, reports = turns(jax.vmap(loop.step), state, count)
            reports = jax.tree.map(lambda leaf: jnp.moveaxis(leaf, 0, 1), reports)
        else:
            state, reports = jax.lax.map(lambda s: turns(loop.step, s, count), state)
        return _strong(state), reports, state.round - before

    def finish(state):
        return (
            jax.vmap(loop.finish)(state)
            if vectorize
            else jax.lax.map(loop.finish, state)
        )

    # one seed after another: some initialisers deadlock under vmap
    def begin(keys, hyperparams=None):
        return _strong(
            jax.lax.map(lambda given: loop.init(*given), (keys, hyperparams))
        )

    if mesh is not None:
        agent = loop.learner.agent
        axis_name = None if agent is None else agent.axis_name
        meshed = over_mesh(mesh, begin, advance, finish, axis_name)
        return Programs(**meshed._asdict(), shrinks=False)
    init = jax.jit(begin)
    if loop.learner.host is None:
        advances = jax.jit(advance, donate_argnums=0)
        return Programs(init, advances, jax.jit(finish), shrinks=vectorize)
    # it may fail, and then the state before, if it was not donated, is all there is
    donated = 0 if _replay_bytes(loop) > _TWICE else ()
    advances = jax.jit(advance, donate_argnums=donated)
    outside = [_aside(part) for part in (init, advances, jax.jit(finish))]
    return Programs(*outside, shrinks=False)


def _replay_bytes(loop: Loop) -> int:
    """Return the size of the replay that a seed has on the device."""
    if loop.learner.agent is None:
        return 0
    memory = jax.eval_shape(loop.learner.init, jax.random.key(0)).memory
    return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(memory))


def _aside(program: Any) -> Callable[..., Any]:
    """Return a jitted program that runs in a thread of its own while this one waits.

    It is waited for in Python, where a signal's handler runs at once and may raise.
    Inside XLA it would have to wait for an environment that hangs.
    """
    compiled: dict[Any, Any] = {}

    def call(*arguments):
        leaves = jax.tree.leaves(arguments)
        if any(isinstance(leaf, Tracer) for leaf in leaves):
            return program(*arguments)
        kinds = tuple((np.shape(x), getattr(x, "dtype", type(x))) for x in leaves)
        if kinds not in compiled:  # in this thread, under its settings
            compiled[kinds] = program.lower(*arguments).compile()
        outcome: dict[str, Any] = {}

        def run():
            try:
                value = compiled[kinds](*arguments)
                outcome["value"] = jax.block_until_ready(value)
            except BaseException as error:
                outcome["error"] = error

        # what hangs for ever must not keep the process from ending
        thread = threading.Thread(target=run, name="optix-host", daemon=True)
        thread.start()
        while thread.is_alive():
            thread.join(1.0)
        if "error" in outcome:
            raise outcome["error"]
        return outcome["value"]

    return call


def _strong(state: LoopState) -> LoopState:
    """Return the state without weak types, which a checkpoint can not hold.

    A resumed run would otherwise be compiled anew, and to another program.
    """

    def strong(leaf):
        if jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            return leaf
        return jax.lax.convert_element_type(leaf, leaf.dtype)

    return jax.tree.map(strong, state)


def vectorized(loop: Loop, vectorize: bool | None) -> bool:
    """Return whether seeds run all at once: not on a CPU, where in turn is faster."""
    if vectorize is None:
        return jax.default_backend() != "cpu" and loop.learner.host is None
    return bool(vectorize)


def with_limits(state: LoopState, budgets: dict[str, Any]) -> LoopState:
    """Return the state under other budgets: seeds go on, or stop, as those say.

    Args:
        state: of all seeds, [S, ...].
        budgets: any of max_rounds, max_env_steps and target_score.

    Raises:
        OptionError: an unknown name or a budget that is not positive.
    """
    check_budgets(budgets)
    limits = state.limits
    for name, value in budgets.items():
        old = getattr(limits, name)
        limits = limits._replace(**{name: jnp.full_like(old, value)})
    rounds_spent = state.round >= limits.max_rounds
    steps_spent = state.env_steps >= limits.max_env_steps
    spent = rounds_spent | steps_spent
    reason = state.stop_reason
    by_budget = (reason == StopReason.MAX_ROUNDS) | (reason == StopReason.MAX_ENV_STEPS)
    raised = limits.target_score > state.limits.target_score
    by_target = (reason == StopReason.TARGET_REACHED) & raised
    lifted = (by_budget | by_target) & ~spent
    stopped = state.active & spent
    reason = jnp.where(lifted, StopReason.RUNNING, reason)
    over = jnp.where(steps_spent, StopReason.MAX_ENV_STEPS, StopReason.MAX_ROUNDS)
    # the next round finds the phase of a seed that goes on from its counters
    phase = jnp.where(lifted, Phase.ACTIVE, state.progress.phase)
    return state._replace(
        limits=limits,
        stop_reason=jnp.where(stopped, over, reason),
        progress=state.progress._replace(
            phase=jnp.where(stopped, Phase.STOPPED, phase)
        ),
    )


@contextlib.contextmanager
def own_errors(loop: Loop) -> Iterator[None]:
    """Raise what a host learner raised in place of JAX's account of it."""
    failure = None
    try:
        yield
    except jax.errors.JaxRuntimeError as error:
        failure = error
    if failure is not None:
        if loop.learner.host is not None:
            loop.learner.host.raise_if_failed()
        raise failure


def enable_compilation_cache() -> None:
    """Keep compiled programs in the user's cache folder, so that a resume starts soon.

    A folder chosen with JAX_COMPILATION_CACHE_DIR is left as it is, and
    OPTIX_COMPILATION_CACHE=0 switches the cache off.
    """
    if os.environ.get("OPTIX_COMPILATION_CACHE") == "0":
        return
    if jax.config.values["jax_compilation_cache_dir"] is not None:
        return
    cache = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser()
    folder = cache / "optix" / "jax"
    with contextlib.suppress(OSError):
        # what is in there is executed, so nobody else may write to it
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        jax.config.update("jax_compilation_cache_dir", str(folder))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.2)


def rows(
    reports: StepReport, rounds: np.ndarray, seeds: np.ndarray | None = None
) -> Rounds:
    """Return the reports of `advance` in their order: round by round, seed by seed.

    Args:
        reports: NumPy arrays [S, CAPACITY, ...].
        rounds: [S] how many of them mean anything.
        seeds: [S] places of the seeds in the run, None for 0 to S - 1.
    """
    turns, places = np.nonzero(np.arange(rounds.max(initial=0))[:, None] < rounds)
    return Rounds(
        places if seeds is None else seeds[places],
        jax.tree.map(lambda leaf: leaf[places, turns], reports),
    )
