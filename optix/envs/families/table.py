"""Which families there are, and whose an environment is; none of them is imported here."""

import difflib
import importlib
import importlib.util
import sys
from types import ModuleType
from typing import Any

from optix import checks
from optix.envs.families.world import World

# the package that each is imported from; its extra of this package is called as it is
FAMILIES = {
    "craftax": "craftax",
    "brax": "brax",
    "jumanji": "jumanji",
    "navix": "navix",
    "xminigrid": "xminigrid",
    "playground": "mujoco_playground",
}


def family_of(env: Any) -> str | None:
    """Return the family of a name as in "brax:ant", or of an instance; None for none.

    A bare name has none, see `full_names`.
    """
    if isinstance(env, str):
        family = env.partition(":")[0]
        return family if ":" in env and family in FAMILIES else None
    if isinstance(env, type):
        return None
    roots = [kind.__module__.partition(".")[0] for kind in type(env).__mro__]
    # the nearest class decides: those of one family may be built on another's
    for root in roots:
        for family, package in FAMILIES.items():
            if root == package and package in sys.modules:
                return family
    return None


def is_installed(family: str) -> bool:
    """Return whether the package of a family can be imported."""
    return importlib.util.find_spec(FAMILIES[family]) is not None


def family_module(family: str) -> ModuleType:
    """Return the module of a family here, whose package it imports.

    Raises:
      ValueError: the package is not installed; the message says how it is.
    """
    if not is_installed(family):
        raise checks.OptionError(
            f"{family} is not installed; pip install 'tensor-optix-jax[{family}]'"
        )
    return importlib.import_module(f"optix.envs.families.{family}")


def names_of(family: str) -> list[str]:
    """Return the names that a family knows, without its prefix, sorted."""
    return sorted(family_module(family).names())


def full_name(name: str) -> str:
    """Return "family:name" of a bare name that one installed family knows, else itself.

    A name of gymnax's is gymnax's.

    Raises:
      ValueError: several families know it.
    """
    import gymnax  # it imports matplotlib and pandas

    if ":" in name or name in gymnax.registered_envs:
        return name
    found = full_names(name)
    if len(found) > 1:
        raise checks.OptionError(
            f"{name!r} is an environment of several families; say which: "
            f"{' or '.join(found)}"
        )
    return found[0] if found else name


def full_names(bare: str) -> list[str]:
    """Return "family:name" of a bare name, for each installed family that knows it."""
    return [
        f"{family}:{bare}"
        for family in FAMILIES
        if is_installed(family) and bare in family_module(family).names()
    ]


def world(env: Any, params: Any = None) -> World:
    """Return the world of a name as in "brax:ant", or of an instance of a family.

    Raises:
      ValueError: a family that is not installed, a name that it has not, parameters
        that are not for it.
    """
    family = family_of(env)
    if family is None:
        raise checks.OptionError(
            f"env must be of a family, {', '.join(FAMILIES)}, got {env!r}"
        )
    module = family_module(family)
    if not isinstance(env, str):
        return module.world(env, params)
    bare = env.partition(":")[2]
    known = names_of(family)
    if bare not in known:
        near = difflib.get_close_matches(bare, known, n=1, cutoff=0.5)
        hint = f"; did you mean {f'{family}:{near[0]}'!r}?" if near else ""
        raise checks.OptionError(
            f"unknown environment {env!r}{hint} (`optix envs {family}:` lists them)"
        )
    return module.world(bare, params)


def nearest_family(env: str) -> str | None:
    """Return the family whose prefix a name like "crafax:X" was probably meant to have."""
    near = difflib.get_close_matches(env.partition(":")[0], FAMILIES, n=1, cutoff=0.7)
    return near[0] if near and ":" in env else None
