"""A live source, read by a thread of its own into a bounded queue.

Where something of the stream is lost, the next item says so.
"""

import collections
import contextlib
import threading
import time
import warnings
from typing import Any

from optix import checks
from optix.host.items import FORM, Item, Items, WrongItemError

OVERFLOWS = ("block", "drop_oldest")
_FOREVER = 1e9  # seconds
_GLANCE_SECONDS = 0.2  # a signal that comes just before a wait is seen after it
_JOIN_SECONDS = 1.0  # what hangs for longer is left alone; it is a daemon


class SourceStalledError(TimeoutError):
    """A live source has given nothing for too long."""


class SourceEndedError(EOFError):
    """A live source has come to its end."""


class Feed:
    """Reads a source in a thread, which starts with the first item asked for.

    Attributes:
      name: of the source, for messages.
      dropped: items thrown away because the queue was full.
      blocked: items for which the source had to wait because the queue was full.
      connections: how often `stream` was called.
    """

    def __init__(
        self,
        source: Any,
        *,
        buffer_size: int,
        overflow: str,
        stall_seconds: float,
        reconnects: int,
        reconnect_seconds: float,
    ):
        """Check the options; see `LivePipeline`."""
        if isinstance(source, type) or not callable(getattr(source, "stream", None)):
            raise TypeError(
                f"source must be an object with a method stream() that yields {FORM}, "
                f"got {source!r}; a Gymnasium environment needs a BatchPipeline"
            )
        checks.known_names("overflow", [overflow], OVERFLOWS)
        self._source, self.name = source, type(source).__name__
        self._size = checks.positive_int("buffer_size", buffer_size)
        self._drops = overflow == "drop_oldest"
        self._stall_seconds = checks.within(
            "stall_seconds", stall_seconds, 0, _FOREVER, open_ends=True
        )
        self._reconnects = checks.positive_int("reconnects", reconnects, 0)
        self._reconnect_seconds = checks.within(
            "reconnect_seconds", reconnect_seconds, 0, _FOREVER
        )
        self.dropped = self.blocked = self.connections = 0
        self._items: collections.deque[Item] = collections.deque()
        self._changed = threading.Condition()  # guards all that both threads touch
        self._thread: threading.Thread | None = None
        self._end: BaseException | None = None  # why nothing comes any more
        self._broke_off: list[Exception] = []  # not told yet
        self._checks = Items(self.name)
        self._closed = False

    @property
    def gap_ahead(self) -> bool:
        """Whether what was acted on last is known to be stale already."""
        with self._changed:
            return bool(self._items) and self._items[0].gap

    def get(self) -> Item:
        """Return the next item, and wait for it.

        Raises:
          SourceStalledError: none has come for so long.
          SourceEndedError: none will.
          RuntimeError: it was closed, maybe meanwhile.
          ValueError: an item of a wrong form. Like an exception of the source itself it
            is raised once: whoever asks again connects anew.
        """
        deadline = time.monotonic() + self._stall_seconds
        with self._changed:
            self._start()
            while not self._items and self._end is None and not self._closed:
                left = deadline - time.monotonic()
                if left <= 0:
                    self._tell()
                    raise SourceStalledError(
                        f"{self.name} has given nothing for {self._stall_seconds:g} "
                        "seconds; see to the source, or pass a longer stall_seconds"
                    )
                self._changed.wait(min(left, _GLANCE_SECONDS))
            self._tell()
            self._refuse_closed()
            if not self._items:
                raise self._ended()
            self._changed.notify_all()  # there is room again
            return self._items.popleft()

    def close(self) -> None:
        """Stop the thread and close the source, if it has a method for that.

        Neither is waited for for long. A second call does nothing.
        """
        with self._changed:
            first, self._closed = not self._closed, True
            self._items.clear()
            self._changed.notify_all()
        if not first:
            return
        failures: list[Exception] = []
        if callable(close := getattr(self._source, "close", None)):

            def shut():
                try:
                    close()
                except Exception as error:
                    failures.append(error)

            # it may hang as well as the stream may
            closer = threading.Thread(target=shut, name="optix-live", daemon=True)
            closer.start()
            closer.join(_JOIN_SECONDS)
        thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            thread.join(_JOIN_SECONDS)
        if failures:
            raise failures[0]

    def _start(self) -> None:
        if self._thread is None and not self._closed:
            self._thread = threading.Thread(
                target=self._read, name="optix-live", daemon=True
            )
            self._thread.start()

    def _tell(self) -> None:
        """Warn, in the thread of whoever asks, of what went wrong in the other."""
        while self._broke_off:
            error = self._broke_off.pop(0)
            warnings.warn(
                f"{self.name} broke off ({type(error).__name__}: {error}) and is opened "
                "again",
                RuntimeWarning,
                stacklevel=4,
            )

    def _refuse_closed(self) -> None:
        if self._closed:
            raise RuntimeError(
                f"the pipeline of {self.name} has been closed; make another one"
            )

    def _ended(self) -> BaseException:
        """Return why nothing comes; after a fault the next one to ask connects anew."""
        error, final = self._end, isinstance(self._end, SourceEndedError)
        assert error is not None
        if final:
            return SourceEndedError(*error.args)  # each time with its own traceback
        self._thread, self._end = None, None
        return error

    # ---------------------------------------------------------- in the reading thread

    def _read(self) -> None:
        failed = 0  # in a row
        while True:
            with self._changed:
                self.connections += 1
            try:
                for count, item in enumerate(self._stream()):
                    if not self._put(item._replace(gap=failed > 0 and count == 0)):
                        return
                    if count == 1:  # there was a transition
                        failed = 0
                self._finish(
                    SourceEndedError(
                        f"the stream of {self.name} has ended; the run can be resumed "
                        "with another source"
                    )
                )
                return
            except Exception as error:
                failed += 1
                final = isinstance(error, WrongItemError)
                if final or failed > self._reconnects:
                    self._finish(error)
                    return
                self._broke_off.append(error)
            except BaseException as error:
                self._finish(error)
                return
            with self._changed:
                self._changed.wait_for(lambda: self._closed, self._reconnect_seconds)
                if self._closed:
                    return

    def _stream(self):
        """Yield checked copies of what one connection gives."""
        stream = self._source.stream()
        try:
            iterator = iter(stream)
        except TypeError:
            raise WrongItemError(
                f"stream() of {self.name} must return an iterable of {FORM}, got "
                f"{type(stream).__name__}; let it yield them"
            ) from None
        with contextlib.ExitStack() as stack:
            if callable(close := getattr(iterator, "close", None)):
                stack.callback(close)
            for n, value in enumerate(iterator):
                yield self._checks.checked(value, n)

    def _put(self, item: Item) -> bool:
        """Add an item; return whether more are wanted."""
        with self._changed:
            if len(self._items) >= self._size:
                if self._drops:
                    self._drop()
                    item = item._replace(gap=item.gap or not self._items)
                else:
                    self.blocked += 1
            while len(self._items) >= self._size and not self._closed:
                self._changed.wait()
            if self._closed:
                return False
            self._items.append(item)
            self._changed.notify_all()
            return True

    def _drop(self) -> None:
        self._items.popleft()
        self.dropped += 1
        if self._items:
            self._items[0] = self._items[0]._replace(gap=True)

    def _finish(self, error: BaseException) -> None:
        with self._changed:
            self._end = error
            self._changed.notify_all()
