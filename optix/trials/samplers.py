"""What is tried next: Optuna's samplers by name, seeded."""

import contextlib
import importlib
import warnings
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import numpy as np

from optix import checks

SAMPLERS = ("tpe", "random", "gp", "qmc", "cmaes")


def optuna() -> ModuleType:
    """Return the module optuna.

    Raises:
        ModuleNotFoundError: it is not installed.
    """
    try:
        import optuna as module
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "searching needs the package optuna: pip install 'tensor-optix-jax[search]'"
        ) from error
    return module


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Let Optuna say only what is wrong; what it said before comes back at the end."""
    logging = optuna().logging
    before = logging.get_verbosity()
    logging.set_verbosity(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna().exceptions.ExperimentalWarning)
        try:
            yield
        finally:
            logging.set_verbosity(before)


def sampler(kind: Any, seed: int, begun: int, worker: int) -> Any:
    """Return a sampler of Optuna's.

    Args:
        kind: a name of `SAMPLERS`, or a sampler, which is returned as it is.
        seed: of the search.
        begun: trials that there are already: one that goes on draws anew, not again.
        worker: 0 for the first; each draws by itself.

    Raises:
        OptionError: it is no sampler, or lacks a package.
    """
    samplers = optuna().samplers
    if isinstance(kind, samplers.BaseSampler):
        return kind
    if not isinstance(kind, str):
        raise checks.OptionError(
            f"sampler must be one of {', '.join(SAMPLERS)} or a sampler of Optuna's, "
            f"got {kind!r}"
        )
    checks.known_names("sampler", [kind], SAMPLERS)
    own = int(np.random.SeedSequence([seed, begun, worker]).generate_state(1)[0])
    try:
        match kind:
            case "tpe":
                # running trials count as bad ones: workers do not try the same
                return samplers.TPESampler(
                    seed=own, multivariate=True, constant_liar=True
                )
            case "random":
                return samplers.RandomSampler(seed=own)
            case "gp":
                importlib.import_module("torch")  # Optuna looks for it when it draws
                return samplers.GPSampler(seed=own, deterministic_objective=False)
            case "qmc":  # one sequence for all, whose place the study keeps
                return samplers.QMCSampler(seed=seed, scramble=True)
            case _:
                importlib.import_module("cmaes")
                return samplers.CmaEsSampler(seed=own)
    except ImportError as error:
        raise checks.OptionError(
            f"sampler {kind!r} needs a package: {error}; install it, or take another one"
        ) from error
