"""Names that a package offers without importing its modules before they are used."""

import importlib
from collections.abc import Mapping, Sequence
from typing import Any


def export(package: dict[str, Any], names: Mapping[str, Sequence[str]]) -> None:
    """Let a package offer names of its modules; each is imported at its first use.

    A name may not be that of a module of the package: the function would hide it.

    Args:
      package: `globals()` of the package's `__init__`; `__getattr__`, `__dir__` and
        `__all__` are put into it.
      names: {module: the names in it}.
    """
    home = {name: module for module in names for name in names[module]}
    title = package["__name__"]

    def find(name: str) -> Any:
        if name not in home:
            raise AttributeError(f"module {title!r} has no attribute {name!r}")
        package[name] = getattr(importlib.import_module(f"{title}.{home[name]}"), name)
        return package[name]

    package["__getattr__"] = find
    package["__dir__"] = lambda: sorted({*package, *home})
    package["__all__"] = sorted(home)
