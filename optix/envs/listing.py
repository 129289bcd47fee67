"""Which environments are known here by name, and what they are like."""

from typing import Any, NamedTuple

from optix.checks import OptionError
from optix.envs.families.table import FAMILIES, family_of, is_installed, names_of
from optix.types import Discrete


class Listing(NamedTuple):
    """One environment in words; "" where it was not made to look at."""

    name: str
    observations: str = ""
    actions: str = ""
    limit: str = ""


_LOOKED_AT = 12  # so few are made, to tell their spaces


def listing(word: str = "") -> tuple[list[Listing], list[str]]:
    """Return the environments whose names hold a word, and what else may be installed.

    Args:
      word: a part of the name, in any case; "" for all. A family's prefix, as in
        "navix:", asks for that family alone, which must be installed.

    Raises:
      ValueError: no environment, or a family that is not installed.
    """
    import gymnasium
    import gymnax

    if family_of(word) is not None:
        names_of(word.partition(":")[0])  # says how it is installed
    found, absent = list(gymnax.registered_envs), []
    found += [name for name in gymnasium.registry if name not in found]
    for family in FAMILIES:
        if is_installed(family):
            found += [f"{family}:{name}" for name in names_of(family)]
        else:
            absent.append(f"{family}: pip install 'tensor-optix-jax[{family}]'")
    names = [name for name in found if word.lower() in name.lower()]
    if not names:
        raise OptionError(
            f"no environment has {word!r} in its name; `optix envs` lists all that are "
            "known here"
        )
    if len(names) > _LOOKED_AT:
        return [Listing(name) for name in names], absent
    return [_looked_at(name) for name in names], absent


def _looked_at(name: str) -> Listing:
    from optix.envs.device import device
    from optix.envs.hosted import hosted
    from optix.envs.names import is_hosted

    try:
        env: Any = hosted(name) if is_hosted(name) else device(name)
    except Exception as error:  # whatever a package raises: the others are listed
        return Listing(name, f"can not be made: {str(error).splitlines()[0]}")
    space = env.action_space
    if isinstance(space, Discrete):
        actions = f"{space.n} actions"
    else:
        actions = f"{type(space).__name__.lower()} {list(space)[0]}"
    shape = f"{list(env.observation_shape)} {env.observation_dtype}"
    return Listing(name, shape, actions, f"{env.time_limit} steps")
