"""Running a loop from the host: compiled programs, their pace, and what pauses them."""

import contextlib
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from optix.checks import OptionError
from optix.run.description import check_budgets
from optix.types import Loop, LoopState, Phase, StepReport, StopReason

CAPACITY = 64  # rounds of one dispatch whose reports are kept
DISPATCH_SECONDS = 0.5  # how long a dispatch should take, and Ctrl-C at most wait
_SIGNALS = [
    getattr(signal, name)
    for name in ("SIGINT", "SIGTERM", "SIGHUP")
    if hasattr(signal, name)  # Windows has no SIGHUP
]


class Programs(NamedTuple):
    """The compiled functions of a run over S seeds.

    init: `(keys [S]) -> state [S, ...]`.
    advance: `(state, count) -> (state, reports [S, CAPACITY], rounds [S])`: at most
        `count` more rounds of every seed that has not stopped; only the first `rounds`
        reports of a seed mean anything. `state` is donated unless the learner has a
        part on the host. The rounds are the same whatever `count` is.
    finish: `(state) -> state`.
    """

    init: Callable[[jax.Array], LoopState]
    advance: Callable[..., tuple[LoopState, StepReport, jax.Array]]
    finish: Callable[[LoopState], LoopState]


def programs(loop: Loop, vectorize: bool) -> Programs:
    """Return the programs of a loop; `vectorize` maps over seeds all at once."""

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

    return Programs(
        # one seed after another: some initialisers deadlock under vmap
        init=jax.jit(lambda keys: _strong(jax.lax.map(loop.init, keys))),
        # a host learner may fail, and then the state before is all there is
        advance=jax.jit(advance, donate_argnums=0 if loop.learner.host is None else ()),
        finish=jax.jit(finish),
    )


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


def next_count(count: int, seconds: float) -> int:
    """Return how many rounds to dispatch after `count` of them took `seconds`."""
    wanted = int(count * DISPATCH_SECONDS / max(seconds, 1e-9))
    return max(1, min(wanted, 2 * count, CAPACITY))


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


class Pause:
    """Says when to leave a run: SIGINT, SIGTERM, SIGHUP, or the wall clock.

    As a context manager it catches the signals, in the main thread only. After the
    first SIGINT the handler from before is back, so that a second one interrupts at
    once; SIGTERM, which schedulers like to send twice, and SIGHUP, of a lost
    terminal, do so never.
    """

    def __init__(self, max_seconds: float | None = None):
        """See the class."""
        if max_seconds is not None and not max_seconds > 0:
            raise OptionError(f"max_seconds must be > 0, got {max_seconds!r}")
        self._deadline = None
        if max_seconds is not None:
            self._deadline = time.monotonic() + max_seconds
        self._signal: str | None = None
        self._before: dict[int, Any] = {}

    @property
    def reason(self) -> str | None:
        """None to go on, else the name of a signal or "max_seconds"."""
        if self._signal is None and self._deadline is not None:
            return "max_seconds" if time.monotonic() >= self._deadline else None
        return self._signal

    def __enter__(self) -> "Pause":
        """Catch the signals that nobody chose to ignore."""
        if threading.current_thread() is threading.main_thread():
            for number in _SIGNALS:
                before = signal.getsignal(number)
                if before not in (None, signal.SIG_IGN):
                    self._before[number] = before
                    signal.signal(number, self._caught)
        return self

    def __exit__(self, *exception: object) -> None:
        """Give the signals back."""
        for number, before in self._before.items():
            signal.signal(number, before)

    def _caught(self, number: int, frame: object) -> None:
        self._signal = signal.Signals(number).name
        text = "\npausing after the rounds that are under way"
        if number == signal.SIGINT:
            signal.signal(number, self._before[number])
            text += "; Ctrl-C again stops at once, without saving"
        # print is not safe in the middle of another print; a terminal may be gone
        with contextlib.suppress(OSError):
            os.write(2, f"{text}\n".encode())


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


def rows(reports: StepReport, rounds: np.ndarray) -> Iterator[tuple[int, StepReport]]:
    """Yield (seed, report) of NumPy scalars, round by round, from `advance`."""
    for turn in range(int(rounds.max(initial=0))):
        for seed in np.flatnonzero(rounds > turn).tolist():
            yield seed, jax.tree.map(lambda leaf: leaf[seed, turn], reports)  # noqa: B023
