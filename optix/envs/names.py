"""Names: which are Gymnasium's, and what messages call an environment of its."""

# ale-py is optional, also where types are checked
# pyright: reportMissingImports=false

import contextlib
import difflib
import importlib.util
import sys
from typing import Any

from optix import checks
from optix.envs.families.table import FAMILIES, family_of, full_names, nearest_family

# extras of this package that bring what groups of Gymnasium's environments need
_EXTRAS = {"ALE/": "atari", "box2d": "box2d", "mujoco": "mujoco", "ale_py": "atari"}


def is_gymnasium(env: Any) -> bool:
    """Return whether this is a Gymnasium environment, single or vectorised."""
    gymnasium = sys.modules.get("gymnasium")  # who has such an environment imported it
    return gymnasium is not None and isinstance(
        env, gymnasium.Env | gymnasium.vector.VectorEnv
    )


def gymnasium_name(env: Any) -> str:
    """Return the id of a Gymnasium environment, or its class if it has none."""
    return env.spec.id if env.spec is not None else type(env.unwrapped).__name__


def is_hosted(env: Any) -> bool:
    """Return whether Gymnasium makes what was asked for, on the host.

    That is so for an environment of its, for a function that makes one, and for a name
    that gymnax has not or that says the module, as in "gymnasium:CartPole-v1".

    Raises:
      ValueError: the name of no environment.
    """
    if not isinstance(env, str):
        if family_of(env) is not None:
            return False
        makes = callable(env) and not hasattr(env, "step_env")
        return is_gymnasium(env) or (makes and not _is_class_of_gymnax(env))
    import gymnax  # it imports matplotlib and pandas

    if env in gymnax.registered_envs or family_of(env) is not None:
        return False
    _check_family(env)
    if ":" in env or is_registered(env):
        return True
    if full_names(env):
        return False
    import gymnasium

    known = [*gymnax.registered_envs, *gymnasium.registry]
    near = difflib.get_close_matches(env, known, n=1, cutoff=0.5)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    raise checks.OptionError(
        f"unknown environment {env!r}{hint} (known: those of gymnax, "
        f"{', '.join(sorted(gymnax.registered_envs))}; and those of Gymnasium, "
        "gymnasium.pprint_registry() lists them; one of a package of its own is "
        f"'package:Name-v0', one of a family as in 'brax:ant': {', '.join(FAMILIES)})"
    )


def _check_family(env: str) -> None:
    """Refuse a name whose prefix is no module, perhaps almost that of a family."""
    near, prefix = nearest_family(env), env.partition(":")[0]
    with contextlib.suppress(ImportError, ValueError):
        if importlib.util.find_spec(prefix) is not None:
            return
    if ":" in env:
        hint = (
            f"did you mean the family {near!r}?" if near else f"no package {prefix!r}"
        )
        raise checks.OptionError(
            f"unknown environment {env!r}; {hint} (families: {', '.join(FAMILIES)})"
        )


def install_command(text: str) -> str:
    """Return the command that installs what an environment needs, "" if not known.

    Args:
      text: its name, or where it is implemented.
    """
    extra = next((extra for part, extra in _EXTRAS.items() if part in text), None)
    return f"pip install 'tensor-optix-jax[{extra}]'" if extra else ""


def is_registered(name: str) -> bool:
    """Return whether Gymnasium knows a name, of ale-py's too where that is there.

    Raises:
      ValueError: a name of ale-py, which is not there.
    """
    import gymnasium

    if name.startswith("ALE/"):
        with contextlib.suppress(ImportError):
            import ale_py

            gymnasium.register_envs(ale_py)
        if not any(known.startswith("ALE/") for known in gymnasium.registry):
            raise checks.OptionError(
                f"{name} needs a package that is not installed; {install_command(name)}"
            )
    return name in gymnasium.registry


def _is_class_of_gymnax(env: Any) -> bool:
    """Whether it is a class, but none of Gymnasium's: then an instance is wanted."""
    if not isinstance(env, type):
        return False
    gymnasium = sys.modules.get("gymnasium")
    return gymnasium is None or not issubclass(env, gymnasium.Env)
