"""What a search is: all that its trials have in common, checked, and its search.json."""

import hashlib
import json
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from optix import checks
from optix.files import replacing
from optix.make import usual_agent
from optix.param_space import checked_space
from optix.registry import ALGORITHMS
from optix.run import description
from optix.run.description import RunFolderError
from optix.trials.pruning import pruner
from optix.trials.samplers import sampler
from optix.types import Loop

FILE, FORMAT = "search.json", 1
_FIXED = (  # what a search that goes on keeps
    *("environment", "agent", "options", "space", "rounds", "report_every"),
    *("seeds", "seed", "sampler", "pruner"),
)


class Plan(NamedTuple):
    """A search, as all its workers see it."""

    environment: Any  # a name, an environment or a `Loop`
    agent: str | None  # None where the space or a loop says it
    options: Mapping[str, Any]  # of `optix.make`, the same in all trials
    space: Mapping[str, tuple]  # {name: (kind, ...)}
    trials: int
    rounds: int  # of a trial
    report_every: int  # rounds between two reports, where a trial may be pruned
    seeds: int  # runs of a trial, on keys of their own
    seed: int
    confirm: int  # configurations that are trained again
    repeats: int  # trials of each of them
    sampler: Any  # a name of `SAMPLERS` or a sampler of Optuna's
    pruner: Any  # a name of `PRUNERS` or a pruner of Optuna's

    @property
    def named(self) -> bool:
        """Whether names and numbers say all of it, so that other processes can join."""
        return _written(self) is not None

    @property
    def title(self) -> str:
        """What is searched, for people."""
        if isinstance(self.environment, Loop):
            return "search"
        name = getattr(self.environment, "name", None) or str(self.environment)
        return f"{name} {self.agent}" if self.agent else name


def plan(
    environment: Any,
    space: Any,
    options: Mapping[str, Any],
    **given: Any,
) -> Plan:
    """Return a plan whose numbers and names are checked; see `optix.search`.

    Raises:
        OptionError: one of them is out of its range or unknown.
    """
    for name in ("trials", "rounds", "seeds", "repeats"):
        checks.positive_int(name, given[name])
    checks.positive_int("confirm", given["confirm"], 0)
    description.check_seeds(given["seeds"], given["seed"])
    every = given.pop("report_every")
    if every is None:
        every = max(1, given["rounds"] // 10)
    checks.positive_int("report_every", every, 1, given["rounds"])
    if "max_rounds" in options:
        raise checks.OptionError(
            "max_rounds is rounds= in a search, the budget of a trial, got "
            f"{options['max_rounds']!r}"
        )
    agent = given.pop("agent")
    if isinstance(environment, Loop):
        checks.beside_a_loop(agent, options)
    elif agent is None and "agent" not in (space or ()):
        agent = usual_agent(environment, **options)
    if agent is not None:
        checks.known_names("agent", [agent], ALGORITHMS)
    if space is None:
        space = _usual(agent)
    space = checked_space(space, "space")
    twice = sorted(set(space) & {*options, *(("agent",) if agent else ())})
    if twice:
        raise checks.OptionError(
            f"{twice[0]} is in the space and given besides; leave one of them out"
        )
    sampler(given["sampler"], given["seed"], 0, 0)  # made to see whether they can be
    pruner(given["pruner"], given["rounds"], every)
    return Plan(environment, agent, dict(options), space, report_every=every, **given)


def digest(searched: Plan) -> str:
    """Return a name that searches which go on with one another have in common.

    Of what is made of objects their kinds count.
    """
    parts = {}
    for name in _FIXED:
        value = getattr(searched, name)
        try:
            parts[name] = description.encoded(value)
        except TypeError:
            parts[name] = type(value).__name__
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]


def create(directory: Path, searched: Plan, storage: str | None) -> dict[str, Any]:
    """Write the search.json of a new search and return what it says.

    Raises:
        RunFolderError: the folder can not be written to.
    """
    record = {
        "format": FORMAT,
        "token": secrets.token_hex(8),
        "storage": storage,
        "plan": _written(searched),
    }
    _write(directory, record)
    return record


def update(directory: Path, record: dict[str, Any], searched: Plan) -> None:
    """Write what a search that goes on may change: its trials and confirmations."""
    _write(directory, {**record, "plan": _written(searched)})


def read(directory: Path) -> dict[str, Any]:
    """Return what a search.json says, its plan as a `Plan`, or None if made of objects.

    Raises:
        RunFolderError: there is none, or it is damaged.
    """
    path = directory / FILE
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        checks.record("the record", record, dict, "it says what is searched")
        if record["format"] != FORMAT:
            raise ValueError(f"its format is {record['format']}, not {FORMAT}")
        if record["plan"] is not None:
            record["plan"] = Plan(**description.decoded(record["plan"]))
        return {name: record[name] for name in ("format", "token", "storage", "plan")}
    except FileNotFoundError:
        raise RunFolderError(
            f"{directory} holds no search of optix; start one with "
            f"`optix search ENV --directory {directory}`"
        ) from None
    except KeyError as error:
        raise RunFolderError(f"{path} lacks {error}; restore it from a copy") from None
    except (OSError, ValueError, TypeError) as error:
        raise RunFolderError(
            f"{path} can not be read ({error}); restore it from a copy"
        ) from error


def must_agree(directory: Path, searched: Plan, there: Plan | None) -> None:
    """Raise OptionError unless a folder holds the search that is asked for."""
    written = _written(searched)
    if there is None or written is None:
        return  # made of objects, which can not be compared
    asked = description.decoded(written)  # a list is a tuple there
    for name in _FIXED:
        ours, theirs = asked[name], getattr(there, name)
        if ours != theirs:
            raise checks.OptionError(
                f"{directory} holds another search, whose {name} is {theirs!r}, got "
                f"{ours!r}; choose another directory, or ask for the same search"
            )


def _written(searched: Plan) -> dict[str, Any] | None:
    try:
        return description.encoded(searched._asdict())
    except TypeError:
        return None


def _write(directory: Path, record: dict[str, Any]) -> None:
    try:
        with replacing(directory / FILE) as file:
            file.write(json.dumps(record, indent=2, allow_nan=False).encode())
    except OSError as error:
        raise RunFolderError(
            f"can not write to {directory} ({error}); choose a folder that you may "
            "write to"
        ) from error


def _usual(agent: str | None) -> dict[str, tuple]:
    """Return the space of an agent: what its tuners change, within their bounds."""
    if agent is None:
        raise checks.OptionError(
            "space must be given beside a loop, like {'learning_rate': ('log_float', "
            "1e-4, 1e-2)}"
        )
    return {
        name: ("log_float" if low > 0 else "float", low, high)
        for name, (low, high) in ALGORITHMS[agent].tuned.items()
    }
