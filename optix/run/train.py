"""Training from the host: `train` starts a run, `resume` continues it."""

import contextlib
import math
import os
import warnings
from collections.abc import Iterable, Mapping
from functools import partial
from importlib import metadata
from typing import Any

import jax
import numpy as np

from optix import checks
from optix.callbacks.base import checked
from optix.checkpoints.registry import CheckpointError
from optix.distributed.devices import devices as found_devices
from optix.distributed.devices import wanted
from optix.distributed.mesh import ONE_DEVICE, Split, split
from optix.distributed.peers import lost_peers, peers
from optix.files import folder_path
from optix.make import make, usual_agent, usual_tuner
from optix.registry import ALGORITHMS
from optix.run import description
from optix.run.folder import POLICIES_KEPT, RunFolder, RunFolderError
from optix.run.pause import Pause, Watch
from optix.run.programs import (
    Programs,
    own_errors,
    programs,
    vectorized,
    with_limits,
)
from optix.run.result import Result, best_seed
from optix.run.session import Session
from optix.run.sharing import divided, mesh_for, resumed
from optix.run.together import compiled, described, loaded, must_be_alike, taken
from optix.types import Loop, LoopState


def train(
    environment_or_loop: Any,
    *,
    agent: str | None = None,
    seeds: int = 1,
    seed: int = 0,
    directory: str | os.PathLike | None = None,
    callbacks: Iterable[Any] = (),
    max_seconds: float | None = None,
    pause: Pause | None = None,
    checkpoint_seconds: float = 30.0,
    memory_every: int = 10,
    progress: bool = True,
    vectorize: bool | None = None,
    drop_stopped: bool | None = None,
    max_snapshots: int = POLICIES_KEPT,
    devices: int | None = None,
    **options: Any,
) -> Result:
    """Train until every seed has stopped by itself, and return what came of it.

    SIGINT (Ctrl-C), SIGTERM, SIGHUP, `max_seconds` and `pause.stop()` pause the run
    after the rounds that are under way: it is saved and `resume` continues it bit for
    bit, as it does after a kill, from the last checkpoint, if that holds the replay (see
    `memory_every`). Environments of Gymnasium can not be saved: such a run goes on with
    fresh episodes, and says so.

    Args:
        environment_or_loop: what `optix.make` takes, or the `Loop` itself.
        agent: the algorithm, for `optix.make`; None picks one by the action space.
        seeds: how many runs side by side; their results have a leading axis [seeds].
        seed: of the random numbers.
        directory: where the run is kept: checkpoints, the best policies, log and
            learning curve. None keeps nothing.
        callbacks: `LoopCallback`s, told of every round after it is over.
        max_seconds: wall clock after which the run is paused, but not before the first
            rounds, which are compiled before.
        pause: an `optix.Pause` whose `stop` pauses the run, from another thread or a
            callback.
        checkpoint_seconds: time between two checkpoints, 0 for as often as possible.
        memory_every: of so many checkpoints one holds the replay of an agent that has
            one, besides the last of a session, which always does. A run that is killed
            and resumed from another one goes on with an empty replay, and says so; 1
            keeps the replay in every checkpoint.
        progress: show a progress bar.
        vectorize: map over the seeds all at once. None does so except on a CPU, where
            one after another is faster.
        drop_stopped: let seeds that have stopped leave a vmapped batch, by halves, once
            compiling a smaller program pays (`optix.run.pace`). XLA may round otherwise
            in a batch of another size. None drops where a trial round has the same bits;
            True drops without a trial, so that the other seeds, and a resumed run, may
            differ by rounding; False never does.
        max_snapshots: how many of the best policies `directory` keeps, at least 2.
        devices: how many to use, None for one, or for all of a run of several processes
            (`optix.distributed.hosts.join`). Seeds are spread over them as far as they
            divide, which
            changes no bit of a seed (but for `vectorize`); the devices of one seed share
            its num_envs, evaluation_episodes, batch_size and capacity. On a CPU they are
            made, if JAX has computed nothing before.
        **options: of `optix.make`: sizes, hyperparameters, budgets.

    Raises:
        OptionError: an option that is unknown or out of range.
        RunFolderError: the directory is in use, holds a run or something else, or can
            not hold checkpoints.
        DevicesDifferError: devices that share one policy hold different ones.
        HostsError: the processes of a run were asked for different ones, or one is gone.

    Example:
        >>> small = dict(num_envs=4, num_steps=8, evaluation_episodes=2)
        >>> result = train("CartPole-v1", max_rounds=2, progress=False, **small)
        >>> result.message, result.scores.shape
        ('the budget of rounds is spent', (1,))
    """
    description.check_seeds(seeds, seed)
    watch = Watch(max_seconds, pause)
    callbacks = _checked_session(callbacks, checkpoint_seconds, memory_every, progress)
    path = None if directory is None else folder_path("directory", directory)
    for name, switch in (("vectorize", vectorize), ("drop_stopped", drop_stopped)):
        if switch is not None:
            checks.boolean(name, switch)
    checks.positive_int("max_snapshots", max_snapshots, minimum=2)
    devices, together = wanted(devices), peers()
    with lost_peers(together), together.all_or_none():
        found_devices(devices)  # before anything is computed
        shares = split(seeds, devices)
        if isinstance(environment_or_loop, Loop):
            checks.beside_a_loop(agent, options)
            loop, recipe, objects = environment_or_loop, None, []
        else:
            if agent is None:
                agent = usual_agent(environment_or_loop, **options)
            each = divided(agent, options, shares.data)
            loop = make(environment_or_loop, agent, **each)
            if options.get("tuner") is None:
                row, policies = ALGORITHMS[agent], options.get("policies")
                options["tuner"] = usual_tuner(row, policies, options)
            recipe = recipe_of(environment_or_loop, agent, options)
            objects = objects_of(environment_or_loop, options)
            if objects and path is not None:
                _warn_of_objects(objects)
        config = new_config(
            recipe,
            seeds,
            seed,
            vectorized(loop, vectorize),
            drop_stopped,
            max_snapshots,
            shares,
            objects,
        )
    with contextlib.ExitStack() as stack:
        stack.enter_context(watch)
        stack.enter_context(lost_peers(together))
        must_be_alike(together, config)
        run = programs(loop, config["vectorize"], mesh_for(loop, shares))
        # a mistake that it finds leaves no folder
        compiled(together, run, _trace(run, _keys(config)))
        folder = None
        if together.first(path is not None):
            folder = together.on_first(
                lambda: stack.enter_context(RunFolder.create(str(path), config)),
                RunFolderError,
            )
        session = Session(loop, run, folder, watch, config, together)
        state = _begun(session)
        title = f"{recipe['environment']} {agent}" if recipe else "training"
        return session.play(
            state, title, callbacks, checkpoint_seconds, memory_every, progress
        )


def resume(
    directory: str | os.PathLike,
    loop: Loop | None = None,
    *,
    callbacks: Iterable[Any] = (),
    max_seconds: float | None = None,
    pause: Pause | None = None,
    checkpoint_seconds: float = 30.0,
    memory_every: int = 10,
    progress: bool = True,
    devices: int | None = None,
    **budgets: Any,
) -> Result:
    """Continue a run from its last checkpoint, bit for bit as if it had never paused.

    That holds for the same versions and devices; a warning tells when they differ, when a
    kill has cost the replay (run.json then lists the checkpoint in `memory_lost`), or
    when environments of Gymnasium begin fresh episodes.

    Args:
        directory: of the run.
        loop: the loop of the run, needed only if `train` was given one.
        callbacks: as for `train`.
        max_seconds: as for `train`.
        pause: as for `train`.
        checkpoint_seconds: as for `train`.
        memory_every: as for `train`.
        progress: as for `train`.
        devices: how many to go on with, None for as many as before. Seeds may move to
            others; devices that share the data of a seed stay as many as they were.
        **budgets: new values of max_rounds, max_env_steps and target_score. Seeds that
            had stopped for one of these go on if the new one allows it.

    Raises:
        RunFolderError: no run there, or one that is under way.
        CheckpointError: no intact checkpoint, or one of another configuration.
        OptionError: an unknown budget, or one that can not be spent; other devices than
            the run can go on with.
        DevicesDifferError: as for `train`.
    """
    watch = Watch(max_seconds, pause)
    callbacks = _checked_session(callbacks, checkpoint_seconds, memory_every, progress)
    description.check_budgets(budgets)
    together = peers()
    config = described(together, directory)
    shares = resumed(config, devices)
    devices = shares.seeds * shares.data
    found_devices(devices)  # before anything is computed
    with contextlib.ExitStack() as stack:
        stack.enter_context(watch)
        stack.enter_context(lost_peers(together))
        folder = taken(
            together,
            lambda: stack.enter_context(RunFolder.open(directory, write=True)),
            directory,
            config,
        )
        config = folder.config
        loop = loop_of(folder, loop, **_each(config, shares))
        _warn_of_differences(config["platform"])
        run = programs(loop, config["vectorize"], mesh_for(loop, shares))
        kept = folder if together.leads else None
        session = Session(loop, run, kept, watch, config, together)
        target = _trace(run, _keys(config))
        compiled(together, run, target)
        state, changes = loaded(together, folder, target, loop), {}
        if state is None:  # killed before the first checkpoint
            state = together.on_host(_begun(session))
        elif jax.tree.structure(state) != jax.tree.structure(target):
            state = _with_empty_memory(state, together.on_host(_begun(session)))
            step = int(np.asarray(state.round).sum())
            changes = {"memory_lost": [*config.get("memory_lost", ()), step]}
        budgets = {**config["budgets"], **budgets}
        # the best policy is written if it is not there any more
        write = partial(_go_on, folder, state, loop, **changes)
        together.on_first(write, RunFolderError, CheckpointError)
        state = with_limits(state, budgets)
        if together.count > 1:
            state = together.place(state, target)
        if _begins_afresh(state, loop):
            warnings.warn(
                "environments of Gymnasium can not be saved, so the run goes on with "
                "fresh episodes: not bit for bit as without the pause",
                RuntimeWarning,
                stacklevel=2,
            )
        # a kill must not forget them
        configure = partial(folder.configure, budgets=budgets, devices=devices)
        together.on_first(configure, RunFolderError)
        title = f"{config['environment'] or 'training'}, resumed"
        return session.play(
            state, title, callbacks, checkpoint_seconds, memory_every, progress
        )


def _go_on(folder: RunFolder, state: LoopState, loop: Loop, **changes: Any) -> None:
    """Write to a folder what a run that goes on needs there."""
    if changes:
        folder.configure(**changes)
    folder.save_best(state, loop, best_seed(state))


def _each(config: Mapping[str, Any], shares: Split) -> dict[str, Any]:
    """Return the options of a device that is one of several that share the data."""
    recipe = config["recipe"]
    if recipe is None or shares.data == 1:
        return {}
    return divided(recipe["agent"], recipe["options"], shares.data)


def _begins_afresh(state: LoopState, loop: Loop) -> bool:
    """Whether seeds that go on have left environments behind that nobody can save."""
    env = loop.learner.env
    hosted = env is not None and env.claim is not None
    if not hosted:
        return False
    going = np.asarray(state.active) & (np.asarray(state.round) > 0)
    return bool(going.any())


def _begun(session: Session) -> LoopState:
    """Return the state before the first round."""
    with own_errors(session.loop):
        return session.programs.init(_keys(session.config))


def _with_empty_memory(state: LoopState, fresh: LoopState) -> LoopState:
    """Return a state that was saved without its replay, with that of a fresh run."""
    warnings.warn(
        "the last checkpoint of the run holds no replay (memory_every), so it goes on "
        "with an empty one: not bit for bit as without the pause",
        RuntimeWarning,
        stacklevel=3,
    )
    return state._replace(learner=state.learner._replace(memory=fresh.learner.memory))


def loop_of(folder: RunFolder, loop: Loop | None, **changes: Any) -> Loop:
    """Return the loop of a run: the given one, or what `rebuild` makes for None."""
    if loop is None:
        return rebuild(folder, **changes)
    checks.record("loop", loop, Loop, "make it by optix.make(...) or loop(...)")
    return loop


def loop_to_read(folder: RunFolder, loop: Loop | None, **changes: Any) -> Loop:
    """Return the loop of a run that goes on no more here; where actors play is no matter.

    So the policy of a run on Ray can be had where there is no Ray.
    """
    recipe = folder.config["recipe"] or {"options": {}}
    if "engine" in recipe["options"]:
        changes["engine"] = "inline"
    return loop_of(folder, loop, **changes)


def rebuild(folder: RunFolder, **changes: Any) -> Loop:
    """Return the loop of a run from what its folder says, with other options if given.

    Raises:
        RunFolderError: the run was not made by names and numbers alone.
    """
    recipe = folder.config["recipe"]
    if recipe is None:
        what = ", ".join(folder.config.get("objects", ())) or "the run"
        raise RunFolderError(
            f"{folder.path} can not be rebuilt by name: {what} was made from objects; in "
            "Python make the same loop again and pass it, as in optix.evaluate("
            f"{str(folder.path)!r}, loop=loop), or to resume, play and load; of an "
            "RLOptimizer, make that with its agent, pipeline and checkpoint_dir"
        )
    # a run that does not say its tuner is older than the choice of one
    options = {"tuner": "fixed", **recipe["options"], **changes}
    try:
        return make(recipe["environment"], recipe["agent"], **options)
    except (ValueError, TypeError, AttributeError, OverflowError) as error:
        raise RunFolderError(
            f"{folder.path / 'run.json'} names a run that can not be made here ({error}); "
            "restore it from a copy, or use the version that wrote it"
        ) from error


def _checked_session(
    callbacks: Iterable[Any],
    checkpoint_seconds: float,
    memory_every: int,
    progress: bool,
) -> list[Any]:
    """Return the callbacks; raise OptionError for what a session would not take."""
    checks.within("checkpoint_seconds", checkpoint_seconds, 0, math.inf)
    checks.positive_int("memory_every", memory_every)
    checks.boolean("progress", progress)
    return checked(callbacks)


def _trace(run: Programs, keys: jax.Array) -> LoopState:
    """Trace the programs, which finds mistakes at once; return the shapes of a state.

    JAX keeps what it traces, so the call that compiles does not do it again.
    """
    state = jax.eval_shape(run.init, keys)
    jax.eval_shape(run.advance, state, np.int32(1))
    jax.eval_shape(run.finish, state)
    return run.placed(state)


def _keys(config: Mapping[str, Any]) -> jax.Array:
    return jax.random.split(jax.random.key(config["seed"]), config["seeds"])


def new_config(
    recipe: dict[str, Any] | None,
    seeds: int,
    seed: int,
    vectorize: bool,
    drop_stopped: bool | None = None,
    max_snapshots: int = POLICIES_KEPT,
    shares: Split = ONE_DEVICE,
    objects: Iterable[str] = (),
) -> dict[str, Any]:
    """Return what run.json says of a new run; see `optix.run.folder`."""
    return {
        "environment": recipe and recipe["environment"],
        "recipe": recipe,
        "objects": tuple(objects),
        "seeds": seeds,
        "seed": seed,
        "vectorize": vectorize,
        "drop_stopped": drop_stopped,
        "max_snapshots": max_snapshots,
        "devices": shares.seeds * shares.data,
        "data_devices": shares.data,
        "budgets": {},
        "platform": _platform(),
    }


def recipe_of(
    environment: Any, agent: str, options: dict[str, Any]
) -> dict[str, Any] | None:
    """Return what rebuilds a loop, None if that takes more than names and numbers."""
    if objects_of(environment, options):
        return None
    return {"environment": environment, "agent": agent, "options": options}


def objects_of(environment: Any, options: Mapping[str, Any]) -> list[str]:
    """Return what of a run is more than names and numbers."""
    objects = [] if isinstance(environment, str) else ["the environment"]
    for name, value in options.items():
        try:
            description.encoded(value)
        except TypeError:
            objects.append(name)
    return objects


def _warn_of_objects(objects: list[str]) -> None:
    warnings.warn(
        f"{', '.join(objects)} can not be written to run.json: `optix resume` and "
        "`optix eval` will not know this run, optix.resume and optix.evaluate need "
        "the same loop as loop=",
        stacklevel=3,
    )


def _platform() -> dict[str, str]:
    try:
        version = metadata.version("tensor-optix-jax")
    except metadata.PackageNotFoundError:  # run from its source
        version = "source"
    return {
        "optix": version,
        "jax": jax.__version__,
        "device": jax.devices()[0].device_kind,
    }


def _warn_of_differences(then: Mapping[str, str]) -> None:
    for name, now in _platform().items():
        if then.get(name) != now:
            warnings.warn(
                f"the run began with {name} {then.get(name)} and goes on with {now}: "
                "not bit for bit as without the pause",
                stacklevel=3,
            )
