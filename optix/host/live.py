"""A live stream of data as windows, for agents on the host."""

import contextlib
import threading
import time
from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import numpy as np

from optix import checks
from optix.envs.telling import MASK, ToldMasks
from optix.host.agent import BaseAgent
from optix.host.boundaries import (
    Boundary,
    EveryNSteps,
    every_n_seconds,
    every_n_steps,
    on_done_signal,
)
from optix.host.feed import Feed, SourceEndedError
from optix.host.items import Item
from optix.host.pipelines import ENDLESS
from optix.host.recorded import each
from optix.host.window import EpisodeData, join_extras
from optix.math.masks import observed
from optix.types import Masked, PyTree


class _Shown(NamedTuple):
    """What was acted on last, and what `act_batch` said."""

    observation: PyTree
    action: PyTree
    extras: Any


class _Row(NamedTuple):
    """A transition, in the order of `EpisodeData`."""

    observation: PyTree
    action: PyTree
    reward: float
    terminated: bool
    truncated: bool
    next_observation: PyTree
    info: Any
    extras: Any


class LivePipeline:
    """Windows [T] from a stream that comes by itself: a feed, a robot, a market.

    `source.stream()` yields (observation, reward, terminated, truncated, info), as
    `gymnasium.Env.step` returns them. A thread reads it, beginning with the first window.
    Each observation that does not end an episode is acted on, and where the source has a
    method `act(action)`, the action goes back by it. The reward that comes with an item
    is that of the action on the item before; one that comes with the first item of an
    episode counts for nothing. Where the `info` of the first item that ends no episode
    holds "action_mask", that of each such item must.

    Windows. A natural end, `terminated` or `truncated`, always ends the window, and
    `boundary` may end it before. The episode is cut there, `truncated`, and the next
    window begins with the observation that was cut at. So each window begins an episode.

    Gaps. What is lost, dropped items or what came while the source was away, leaves no
    transition over the gap: the one before it is marked `truncated`, and an episode begins
    behind it, in the same window.

    Faults. A source that raises is opened again, `reconnects` times in a row (a connection
    that has given two items begins the count anew), each time with a warning; then its
    own exception arrives. One that gives nothing raises `SourceStalledError`. At the end
    of a stream the rest is a last window; after it `SourceEndedError` is raised. An item
    of another form, or with a number that is not finite, is a ValueError. Any of these
    loses the window under way; what the source gives later can be learned from.

    There is only the one stream: it can not be begun anew, and serves one run of one lane
    and one seed. Whatever asks for fresh episodes (a rollback, a resumed run) goes on
    with it.

    An evaluation plays windows of the stream itself, with `explore=False`; what it has
    played is not learned from. Where that is too dear give `host` another pipeline,
    `validation=`; a source without `act` needs one, as nothing that an agent does
    changes what it pays. At the end of a run `final_scores` times up to three evaluations
    are played (`optix.loop.loop`).

    Args:
      source: has a method `stream()`, and maybe `act(action)` and `close()`.
      boundary: `(steps, seconds, observation) -> bool` is asked after each step that does
        not end the window anyway: `every_n_steps(n)`, `every_n_seconds(n)`,
        `on_done_signal()` or one of your own.
      buffer_size: items that may wait, while the agent learns say.
      overflow: what happens to more of them. "block" lets the source wait; "drop_oldest"
        throws away the oldest one. With `buffer_size=1` the agent then acts on the newest.
      stall_seconds: how long to wait for an item.
      reconnects: how often in a row a source that raises is opened again.
      reconnect_seconds: the pause before.
      max_episode_steps: longer windows are cut, whatever `boundary` says.

    Raises:
      TypeError: `source` has no method `stream`.
      ValueError: an unknown `overflow`, a size or a time out of range.

    >>> class Clock:
    ...     def stream(self):
    ...         for hour in range(24):
    ...             yield [hour], float(hour), False, False, {}
    >>> pipeline = LivePipeline(Clock(), boundary=LivePipeline.every_n_steps(8))
    >>> pipeline.window_steps, pipeline.copies, pipeline.lanes
    (8, 1, 1)
    >>> pipeline.close()
    """

    lanes: int | None = 1
    copies: int | None = 1
    scores_windows = True  # an episode of an evaluation is a window
    every_n_steps = staticmethod(every_n_steps)
    every_n_seconds = staticmethod(every_n_seconds)
    on_done_signal = staticmethod(on_done_signal)

    def __init__(
        self,
        source: Any,
        *,
        boundary: Boundary | None = None,
        buffer_size: int = 1000,
        overflow: str = "block",
        stall_seconds: float = 30.0,
        reconnects: int = 3,
        reconnect_seconds: float = 1.0,
        max_episode_steps: int = ENDLESS,
    ):
        """Check everything; the source is left alone until the first window."""
        self._feed = Feed(
            source,
            buffer_size=buffer_size,
            overflow=overflow,
            stall_seconds=stall_seconds,
            reconnects=reconnects,
            reconnect_seconds=reconnect_seconds,
        )
        self._boundary = on_done_signal() if boundary is None else boundary
        remedy = "like LivePipeline.every_n_steps(100)"
        checks.function("boundary", self._boundary, remedy)
        self._most = checks.positive_int("max_episode_steps", max_episode_steps)
        self.name = self._feed.name
        self._act = getattr(source, "act", None)
        steps = boundary.steps if isinstance(boundary, EveryNSteps) else ENDLESS
        self.window_steps = min(steps, self._most)
        self.time_limit: int | None = None
        if self.window_steps < ENDLESS:
            self.time_limit = self.window_steps
        self.masked: bool | None = None  # whether the first item acted on tells one
        self._masks = ToldMasks(self.name, ())
        self._waiting: Item | None = None  # begins the next window, not acted on yet
        self._lock = threading.Lock()
        self._opened = False

    @property
    def unscored(self) -> str | None:
        """Why what the source pays is no score of an agent; None where it is one."""
        if self._act is not None:
            return None
        return (
            f"{self.name} takes no actions, so what it pays says nothing about an agent; "
            "give it a method act(action), or what scores in its place: validation= of "
            "host, val_pipeline= or checkpoint_score_fn= of RLOptimizer"
        )

    @property
    def dropped(self) -> int:
        """How many items were thrown away because the queue was full."""
        return self._feed.dropped

    @property
    def blocked(self) -> int:
        """For how many items the source had to wait because the queue was full."""
        return self._feed.blocked

    @property
    def connections(self) -> int:
        """How often the source was opened."""
        return self._feed.connections

    def open(self) -> "LivePipeline":
        """Return the pipeline itself, once.

        Raises:
          RuntimeError: it serves a run already.
        """
        if self._opened:
            raise RuntimeError(
                f"{self.name}: a live source can not be copied: one lane, one seed; it "
                "serves a run already. Go on with that run, or make a pipeline and a "
                "source for each"
            )
        self._opened = True
        return self

    def collect(self, agent: BaseAgent, envs: Any, seed: int | None) -> EpisodeData:
        """Return the next window, [T, ...], in which the agent explores.

        Args:
          agent: plays by `act_batch`, and is told by `begin_episode`.
          envs: what `open` gave.
          seed: makes no difference: a stream goes on.
        """
        with self._alone():
            rows = self._window(agent, explore=True)
        fields: Any = map(list, zip(*rows, strict=True))
        *fields, extras = fields
        return EpisodeData(*fields, extras=join_extras(extras, np.concatenate))

    def evaluate(self, agent: BaseAgent, seed: int, episodes: int) -> float:
        """Return the mean return of the next windows; nothing is learned.

        The agent plays with `explore=False`. There are fewer of them if the stream ends.

        Raises:
          RuntimeError: the source takes no actions.
        """
        checks.positive_int("episodes", episodes)
        if self.unscored is not None:
            raise RuntimeError(self.unscored)
        returns: list[float] = []
        with self._alone():
            for _ in range(episodes):
                try:
                    rows = self._window(agent, explore=False)
                except SourceEndedError:
                    if returns:
                        break
                    raise
                returns.append(sum(row.reward for row in rows))
        return float(np.mean(returns))

    def close(self) -> None:
        """Stop the thread, and close the source if it has a method for that.

        A source that hangs is left behind. A window that waits for it raises RuntimeError.
        """
        self._feed.close()

    def _window(self, agent: BaseAgent, explore: bool) -> list[_Row]:
        """Play until the window is over."""
        rows: list[_Row] = []
        shown, began = None, 0.0
        item, self._waiting = self._waiting, None
        if item is None or self._feed.gap_ahead:  # what waited is stale then
            item = self._feed.get()
        item = self._shown(item, agent)
        while True:
            if item.gap and rows:
                rows[-1] = rows[-1]._replace(truncated=True)
            if item.gap:
                shown = None
            if shown is not None:
                before, action, extras = shown
                flags = item.terminated, item.truncated
                after = item.observation, item.info, extras
                rows.append(_Row(before, action, item.reward, *flags, *after))
            if item.ends and rows:
                return rows
            if shown is not None and self._cuts(len(rows), began, item):
                rows[-1] = rows[-1]._replace(truncated=True)
                self._waiting = item._replace(gap=False)
                return rows
            if shown is None and not item.ends:
                agent.begin_episode(np.ones(1, bool))
                began = began or time.monotonic()
            # an episode that ends where it begins has no step
            shown = None if item.ends else self._answer(agent, item, explore)
            try:
                item = self._shown(self._feed.get(), agent)
            except SourceEndedError:
                if not rows:
                    raise
                rows[-1] = rows[-1]._replace(truncated=True)
                return rows

    def _cuts(self, steps: int, began: float, item: Item) -> bool:
        """Whether the window is over, although the episode is not."""
        seconds = time.monotonic() - began
        seen = observed(item.observation)
        return bool(steps >= self._most or self._boundary(steps, seconds, seen))

    def _shown(self, item: Item, agent: BaseAgent) -> Item:
        """Return an item with the mask that it tells, for an agent that reads them."""
        seen = observed(item.observation)
        if self.masked is None and not item.ends:
            self.masked = MASK in item.info
        if self.masked and agent.takes_masks:
            seen = Masked(seen, self._masks.row(item.info.get(MASK), item.ends))
        return item._replace(observation=seen)

    def _answer(self, agent: BaseAgent, item: Item, explore: bool) -> _Shown:
        """Act on what an item shows, and tell the source."""
        batch = each(lambda x: x[None].copy(), item.observation)
        actions, extras = agent.act_batch(batch, explore=explore)
        for leaf in jax.tree.leaves(actions):
            array = np.asarray(leaf)
            is_row = array.shape[:1] == (1,) and array.dtype.kind in "biuf"
            if not is_row or not np.isfinite(array).all():
                raise ValueError(
                    f"actions of {type(agent).__name__} for {self.name} must be arrays "
                    f"[1, ...] of finite numbers, got {leaf!r}; mend act_batch or act"
                )
        # what is recorded is nobody else's
        recorded = each(lambda x: np.array(x[0]), actions)
        added = {name: each(np.array, value) for name, value in extras.items()}
        if self._act is not None:
            self._act(each(lambda x: np.asarray(x)[0].copy(), actions))
        return _Shown(item.observation, recorded, added)

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        if not self._lock.acquire(blocking=False):
            raise RuntimeError(
                f"{self.name} is being played already, by another run in another "
                "thread; make a pipeline and a source for each"
            )
        try:
            yield
        finally:
            self._lock.release()
