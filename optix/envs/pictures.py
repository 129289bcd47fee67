"""Pictures of environments, of whatever draws them: [H, W, 3] uint8."""

import contextlib
import ctypes.util
import os
import sys
from collections.abc import Callable
from typing import Any

import numpy as np

from optix import checks

_SIDE = 160  # pixels that an image of few is enlarged to
_CLASSIC = "pip install 'gymnasium[classic-control]'"


def renderer(env: Any) -> Callable[[Any, Any], Any] | None:
    """Return `(state, params) -> picture` of an environment of gymnax's protocol.

    Its own method `render` draws it: an array of pixels or a figure of matplotlib. The
    classic control problems of gymnax are drawn as Gymnasium draws them. None where
    there is neither.
    """
    own = getattr(env, "render", None)
    if callable(own):
        return own
    if "gymnax" not in sys.modules:
        return None
    from gymnax.environments.environment import Environment

    name = getattr(env, "name", None)
    if not isinstance(env, Environment) or name not in _classics():
        return None
    return _classic(name)


def _classics() -> tuple[str, ...]:
    from gymnax.visualize.vis_gym import SUPPORTED_GYM_ENVS

    return SUPPORTED_GYM_ENVS


def _classic(name: str) -> Callable[[Any, Any], np.ndarray]:
    """Return what draws states of a classic control problem, in one Gymnasium's."""
    opened: list[Any] = []

    def render(state, params):
        import gymnasium
        from gymnax.visualize.vis_gym import get_gym_state, set_gym_params

        if not opened:
            try:
                env = gymnasium.make(name, render_mode="rgb_array").unwrapped
                env.reset()
                env.render()
            except gymnasium.error.DependencyNotInstalled as error:
                raise checks.OptionError(
                    f"pictures of {name} need pygame, which is not installed; {_CLASSIC}"
                ) from error
            opened.append(env)
        env = opened[0]
        set_gym_params(env, name, params)
        env.state = get_gym_state(state, name)
        if hasattr(state, "last_u"):  # the arrow of Pendulum's torque
            env.last_u = np.asarray(state.last_u).item()
        return env.render()

    return render


def pixels(name: str, picture: Any) -> np.ndarray:
    """Return a picture as [H, W, 3] uint8.

    Args:
      name: of the environment, for messages.
      picture: an array [H, W], [H, W, 1], [H, W, 3] or [H, W, 4], of bytes or of shares
        of one; or a figure of matplotlib, alone, first of a tuple or that of an artist.

    Raises:
      ValueError: something else.
    """
    figure = _figure(picture)
    if figure is not None:
        return _drawn(figure)
    array: Any = None
    with contextlib.suppress(TypeError, ValueError):
        array = np.asarray(picture)
    if array is None or array.ndim not in (2, 3) or array.dtype.kind not in "buif":
        raise _no_picture(name, picture)
    array = array[..., None] if array.ndim == 2 else array
    if array.shape[-1] not in (1, 3, 4) or 0 in array.shape:
        raise _no_picture(name, picture)
    if array.dtype.kind in "bf" and (array.dtype == bool or array.max() <= 1):
        array = array * 255.0
    array = np.clip(array[..., :3], 0, 255).astype(np.uint8)
    return np.ascontiguousarray(np.broadcast_to(array, (*array.shape[:2], 3)))


def _no_picture(name: str, picture: Any) -> checks.OptionError:
    got = getattr(picture, "shape", None)
    return checks.OptionError(
        f"render of {name} must give pixels [H, W, 3] uint8 or a figure of matplotlib, "
        f"got {type(picture).__name__ if got is None else f'the shape {got}'}"
    )


def _figure(picture: Any) -> Any:
    if isinstance(picture, np.ndarray) or "matplotlib" not in sys.modules:
        return None
    from matplotlib.figure import Figure

    found = picture[0] if isinstance(picture, tuple) and picture else picture
    found = getattr(found, "figure", found)
    return found if isinstance(found, Figure) else None


def _drawn(figure: Any) -> np.ndarray:
    from matplotlib import pyplot
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    drawn = np.array(canvas.buffer_rgba())[..., :3]
    pyplot.close(figure)
    return drawn


def is_image(shape: tuple[int, ...]) -> bool:
    """Return whether observations of a shape can be looked at."""
    return len(shape) == 3


def image(obs: np.ndarray) -> np.ndarray:
    """Return an image that an agent sees, [H, W, C], as a picture.

    Three channels are colours and one is grey. Of frames of bytes one behind another the
    last is shown; other channels have a colour each, the later one before the earlier.
    Few pixels are enlarged.

    >>> image(np.zeros((10, 10, 4), np.float32)).shape
    (160, 160, 3)
    """
    obs = np.asarray(obs)
    if obs.shape[-1] not in (1, 3):
        obs = obs[..., -1:] if obs.dtype == np.uint8 else _coloured(obs)
    picture = pixels("an observation", obs)
    times = max(1, _SIDE // min(picture.shape[:2]))
    return picture.repeat(times, 0).repeat(times, 1)


def _coloured(obs: np.ndarray) -> np.ndarray:
    """Return the colours [H, W, 3] of channels that mark things, as MinAtar's do."""
    import matplotlib

    count = obs.shape[-1]
    number = ((obs != 0) * np.arange(1, count + 1)).max(-1)
    shades = matplotlib.colormaps["cubehelix"](np.linspace(0.2, 0.9, count))
    table = np.concatenate([np.zeros((1, 3)), shades[:, :3]])
    return table[number]


def quiet() -> None:
    """Let pygame and MuJoCo, which draw, look for no device or screen that is absent."""
    os.environ.setdefault("SDL_AUDIODRIVER", "dummy")
    if not os.environ.keys() & {"DISPLAY", "WAYLAND_DISPLAY"}:
        os.environ.setdefault("SDL_VIDEODRIVER", "dummy")
        if ctypes.util.find_library("EGL"):  # without it MuJoCo could not be imported
            os.environ.setdefault("MUJOCO_GL", "egl")
    os.environ.setdefault("PYGAME_HIDE_SUPPORT_PROMPT", "1")
