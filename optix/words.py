"""Words of the command line: NAME=VALUE, as values."""

import ast
from collections.abc import Container, Sequence
from typing import Any

from optix.checks import OptionError

_WORDS = {"true": True, "false": False, "none": None}


def parsed(
    settings: Sequence[str], flags: Container[str], command: str
) -> dict[str, Any]:
    """Return {name: value} of settings NAME=VALUE.

    Args:
        settings: what --set was given.
        flags: names that the command has flags for.
        command: its name, for messages.

    Raises:
        OptionError: one is no such setting, or has a flag.

    >>> parsed(["learning_rate=1e-3", "hidden=(4, 4)", "agent_name=x"], (), "train")
    {'learning_rate': 0.001, 'hidden': (4, 4), 'agent_name': 'x'}
    """
    options = {}
    for setting in settings:
        name, equals, text = setting.partition("=")
        if not (name and equals and text):
            raise OptionError(f"--set takes NAME=VALUE, got {setting!r}")
        if name in flags:
            raise OptionError(
                f"{name} can not be --set; `optix {command} --help` has flags"
            )
        options[name] = value_of(text)
    return options


def value_of(text: str) -> Any:
    """Return the value that a text says: a literal of Python, or else the text.

    >>> value_of("1e-3"), value_of("true"), value_of("ppo")
    (0.001, True, 'ppo')
    """
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return _WORDS.get(text.lower(), text)
