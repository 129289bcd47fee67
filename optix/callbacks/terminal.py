"""Text on whatever stream there is: ASCII, Latin-1, a pipe, narrow, or closed."""

import math
from collections.abc import Sequence
from typing import Any

_PLAIN = {"±": "+-", "≤": "<=", "…": "...", "━": "-", "╸": "-", "╺": "-"}
BARS = "▁▂▃▄▅▆▇█"
_PLAIN |= {bar: str(height) for height, bar in enumerate(BARS, 1)}


def spelt(text: str, encoding: str | None) -> str:
    r"""Return the text in signs that an encoding has.

    Example:
        >>> spelt("score 3 ± 1, é", "ascii"), spelt("3 ± 1, ≤ 2, é", "latin-1")
        ('score 3 +- 1, \\xe9', '3 ± 1, <= 2, é')
    """
    encoding = encoding or "utf-8"
    try:
        text.encode(encoding)
        return text
    except LookupError:  # an encoding that Python does not know
        return spelt(text, "ascii")
    except UnicodeEncodeError:
        return "".join(_sign(sign, encoding) for sign in text)


def _sign(sign: str, encoding: str) -> str:
    try:
        sign.encode(encoding)
        return sign
    except UnicodeEncodeError:
        plain = _PLAIN.get(sign, sign)
        return plain.encode("ascii", "backslashreplace").decode("ascii")


class Stream:
    """A text stream that can be written to, whatever became of the one inside.

    Signs that the encoding lacks are spelt with others. Once the stream inside is
    closed or its reader is gone, text is dropped: what is shown of a run must never end
    it.

    Args:
        stream: a text stream such as `sys.stdout`; None drops all text.
    """

    def __init__(self, stream: Any):
        """See the class."""
        self._stream: Any = stream

    @property
    def encoding(self) -> str:
        """Of the stream inside; UTF-8 where it says nothing."""
        return getattr(self._stream, "encoding", None) or "utf-8"

    def write(self, text: str) -> int:
        """Write the text."""
        self._do("write", spelt(text, self.encoding))
        return len(text)

    def flush(self) -> None:
        """Flush the stream inside."""
        self._do("flush")

    def isatty(self) -> bool:
        """Return whether it is a terminal."""
        try:
            return bool(self._stream.isatty())
        except (AttributeError, OSError, ValueError):
            return False

    def fileno(self) -> int:
        """Return the descriptor of the stream inside.

        Raises:
            OSError: it has none.
        """
        try:
            return self._stream.fileno()
        except (AttributeError, ValueError) as error:
            raise OSError("the stream has no descriptor") from error

    def _do(self, name: str, *arguments: Any) -> None:
        if self._stream is not None:
            try:
                getattr(self._stream, name)(*arguments)
            except (OSError, ValueError):  # no reader, no terminal, or closed
                self._stream = None


def say(text: str, stream: Any) -> None:
    """Write a line to a stream, as well as that is possible."""
    out = Stream(stream)
    out.write(f"{text}\n")
    out.flush()


def short(number: float) -> str:
    """Return a number in few signs.

    Example:
        >>> short(12345.6), short(7.0)
        ('12.3k', '7')
    """
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if number >= size:
            return f"{number / size:.3g}{letter}"
    return f"{number:.3g}"


def clock_time(seconds: float) -> str:
    """Return a duration as a clock shows it.

    Example:
        >>> clock_time(75), clock_time(3700)
        ('1:15', '1:01:40')
    """
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"


def sparkline(values: Sequence[float]) -> str:
    """Return the values as bars, the lowest an eighth high and the highest full.

    What is not finite is a gap; values that are all the same are of half height.

    Example:
        >>> sparkline([0.0, 7.0, float("nan"), 3.0]), sparkline([2.0, 2.0])
        ('▁█ ▄', '▅▅')
    """
    known = [value for value in values if math.isfinite(value)]
    low, high = min(known, default=0.0), max(known, default=0.0)
    top = len(BARS) - 1

    def bar(value: float) -> str:
        if not math.isfinite(value):
            return " "
        if high == low:
            return BARS[len(BARS) // 2]
        # halves first: the difference of two great numbers may be none
        share = (value / 2 - low / 2) / (high / 2 - low / 2)
        return BARS[round(share * top)]

    return "".join(map(bar, values))
