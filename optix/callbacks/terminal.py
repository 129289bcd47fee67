"""Text on whatever stream there is: ASCII, Latin-1, a pipe, narrow, or closed."""

from typing import Any

_PLAIN = {"±": "+-", "≤": "<=", "…": "...", "━": "-", "╸": "-", "╺": "-"}


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
