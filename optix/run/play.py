"""Episodes of the best policy of a run, as a film."""

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from optix import checks
from optix.callbacks.terminal import Stream
from optix.envs.environment import environment
from optix.envs.pictures import quiet
from optix.files import replacing
from optix.math.masks import mask_of, observed
from optix.run.film import checked_film, numbered, write_film
from optix.run.folder import RunFolder
from optix.run.load import LoadedPolicy, load
from optix.run.loaded_agent import LoadedAgent
from optix.run.members import ensemble_of
from optix.run.playing import fresh_key
from optix.run.seen import Seen, device_episodes, hosted_episodes, no_picture
from optix.run.train import loop_to_read
from optix.types import Environment, Loop

FILM = "episode.gif"  # in the folder of the run


class Played(NamedTuple):
    """What was played, and where it can be seen."""

    path: Path  # of the file; of the first of several pictures
    returns: np.ndarray  # [episodes] float32
    lengths: np.ndarray  # [episodes] int32 steps
    pictures: int  # of each episode one more than it has steps

    @property
    def message(self) -> str:
        """The figures in a sentence."""
        count, many = len(self.returns), len(self.returns) != 1
        scores = ", ".join(f"{value:.5g}" for value in self.returns[:5])
        return (
            f"{self.path}: {count} episode{'s' * many} of "
            f"{', '.join(map(str, self.lengths[:5]))}{', ...' * (count > 5)} steps, "
            f"return{'s' * many} {scores}{', ...' * (count > 5)}"
        )


def play(
    directory: str | os.PathLike,
    path: str | os.PathLike | None = None,
    *,
    episodes: int = 1,
    seed: int = 0,
    fps: int = 20,
    ensemble: int | None = None,
    env: Any = None,
    loop: Loop | None = None,
    progress: bool = True,
) -> Played:
    """Play the best policy of a run and write what it looks like.

    On the device they are the first of the episodes that `optix.evaluate` plays with the
    same seed, of Gymnasium as long as it plays 16 or fewer. An episode has a picture
    before its first step and one after each step; in a GIF equal pictures one after
    another are one that stays for longer.

    Args:
        directory: of the run, which may still be under way.
        path: of the file, replaced if it is there; its suffix says what it is: .gif;
            .mp4, which needs the package imageio-ffmpeg; .png, of "x.png" the pictures
            x-00000.png and so on; .html, a page of Brax's. None is episode.gif in the
            folder of the run.
        episodes: how many, one after another.
        seed: of the random numbers of these episodes.
        fps: pictures a second; in a GIF hundredths of a second lie between two of them.
        ensemble: let so many of the run's best policies act as one, as `load_ensemble`.
        env: what `optix.make` takes, to play in instead of the run's environment; needed
            for an agent outside JAX: a function that makes a Gymnasium environment with
            render_mode="rgb_array".
        loop: the loop of the run, needed only if `train` was given one.
        progress: show how far it is, in a terminal.

    Raises:
        RunFolderError: no run there, or one without a finite score yet.
        CheckpointError: no intact policy, or one of another configuration.
        OptionError: an environment without pictures, a path that can not be written to or
            that ends in another suffix, a number that is out of range.

    Example:
        >>> import tempfile
        >>> from optix.run.train import train
        >>> small = dict(num_envs=4, num_steps=8, max_rounds=1, progress=False)
        >>> with tempfile.TemporaryDirectory() as parent:
        ...     _ = train("Catch-bsuite", directory=f"{parent}/run", **small)
        ...     film = play(f"{parent}/run", f"{parent}/catch.gif", progress=False)
        ...     film.path.name, film.lengths.tolist(), film.pictures
        ('catch.gif', [9], 10)
    """
    checks.positive_int("episodes", episodes)
    checks.positive_int("seed", seed, 0, 2**32 - 1)
    checks.positive_int("fps", fps, maximum=100)
    checks.boolean("progress", progress)
    if ensemble is not None:
        checks.positive_int("ensemble", ensemble)
    folder = RunFolder.open(directory, write=False)
    where = checked_film(folder.path / FILM if path is None else path)
    quiet()
    by_name, loop = loop is None, loop_to_read(folder, loop)
    player = _player(folder, loop, ensemble, directory)
    found = _environment(player, env)
    recipe = folder.config["recipe"] if by_name else None
    options = recipe["options"] if recipe else {}
    explore = not options.get("deterministic_evaluation", True)
    seen = _episodes(player, found, episodes, seed, explore)
    html = where.suffix.lower() == ".html"
    if html and found.html is None:
        raise checks.OptionError(
            f"path must end in .gif, .mp4 or .png, for {found.name} has no page of its "
            f"own, got {where.name!r}"
        )
    with _counted(seen, episodes, progress) as (moments, tally):
        if html:
            _write_page(where, found, moments)
        else:
            write_film(where, (moment.picture() for moment in moments), fps)
    first = numbered(where, 0) if where.suffix.lower() == ".png" else where
    returns = np.array(tally.returns, np.float32)
    lengths = np.array(tally.lengths, np.int32)
    return Played(first, returns, lengths, int(lengths.sum()) + len(lengths))


def _player(
    folder: RunFolder, loop: Loop, ensemble: int | None, directory: Any
) -> LoadedPolicy | LoadedAgent:
    if ensemble is None:
        return load(directory, loop=loop)
    agent, best, _ = ensemble_of(folder, loop, ensemble)
    env: Any = loop.learner.env
    return LoadedPolicy(agent, env, best)


def _environment(player: LoadedPolicy | LoadedAgent, env: Any) -> Environment:
    """Return where to play."""
    if isinstance(player, LoadedAgent):
        found = None if env is None else environment(env)
        if found is None or found.claim is None:
            raise checks.OptionError(
                "env must be a function that makes a Gymnasium environment with "
                f"render_mode='rgb_array', for an agent outside JAX, got {env!r}"
            )
        return found
    if env is None:
        return player.env
    found = environment(env)
    wanted, got = (
        (x.observation_shape, x.action_space, x.masked) for x in (player.env, found)
    )
    if wanted != got:
        raise checks.OptionError(
            f"env must have the spaces of {player.env.name}, {wanted[:2]}, and its masks, "
            f"got {found.name} with {got[:2]}"
        )
    return found


def _episodes(
    player: LoadedPolicy | LoadedAgent,
    env: Environment,
    episodes: int,
    seed: int,
    explore: bool,
) -> Iterator[Seen]:
    key = fresh_key(seed)
    if env.claim is None:
        assert isinstance(player, LoadedPolicy)
        keys = jax.random.split(key, episodes)
        who = player.agent, env, player.policy, player.hyperparams
        return device_episodes(*who, keys, explore)
    if (show := getattr(env.host, "show", None)) is None:
        raise no_picture(env.name)
    # as an evaluation begins: one key, and seeds that count up from what is drawn of it
    begin = jax.random.split(jax.random.split(key, 1)[0])[0]
    first = int(jax.random.bits(begin, (), np.uint32)) >> 2
    stage = show()
    if isinstance(player, LoadedAgent):
        stage = stage._replace(encode=lambda obs: obs)

    reads = isinstance(player, LoadedPolicy) or player.agent.takes_masks

    def act(obs):
        mask = mask_of(obs) if reads else None
        return player.act(observed(obs), explore, action_mask=mask)

    return hosted_episodes(
        env.name,
        stage,
        act,
        player.reset,
        [first + number for number in range(episodes)],
        env.time_limit,
    )


class _Tally:
    """What the episodes came to so far."""

    def __init__(self):
        self.returns: list[float] = []
        self.lengths: list[int] = []


@contextmanager
def _counted(
    seen: Iterator[Seen], episodes: int, progress: bool
) -> Iterator[tuple[Iterator[Seen], _Tally]]:
    """Give the moments and what they come to, and show how far they are."""
    from rich.console import Console
    from rich.progress import Progress

    tally = _Tally()
    out: Any = Stream(sys.stdout)
    console = Console(file=out, highlight=False)
    hidden = not (progress and console.is_terminal)
    with Progress(console=console, transient=True, disable=hidden) as bar:
        task = bar.add_task("compiling", total=episodes)

        def moments():
            total, steps = 0.0, -1
            for moment in seen:
                total, steps = total + moment.reward, steps + 1
                at = len(tally.returns) + 1
                bar.update(task, description=f"episode {at}/{episodes}, step {steps}")
                yield moment
                if moment.ended:
                    tally.returns.append(total)
                    tally.lengths.append(steps)
                    total, steps = 0.0, -1
                    bar.advance(task)

        yield moments(), tally


def _write_page(path: Path, env: Environment, moments: Iterator[Seen]) -> None:
    write: Callable[[list[Any]], str] = env.html  # type: ignore
    text = write([moment.state for moment in moments])
    try:
        with replacing(path) as file:
            file.write(text.encode())
    except OSError as error:
        raise checks.OptionError(f"path can not be written to: {error}") from error
