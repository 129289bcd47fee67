"""Pictures of what MuJoCo's models look like, for the families that are built on it."""

# the package comes with their extras
# pyright: reportMissingImports=false, reportAttributeAccessIssue=false

from collections.abc import Callable
from typing import Any

import numpy as np

from optix import checks

_HEIGHT, _WIDTH = 240, 320
_SCREEN = (
    "MuJoCo draws by OpenGL: where there is no screen, set MUJOCO_GL=egl (its library is "
    "libegl1) or MUJOCO_GL=osmesa (libosmesa6) before Python starts"
)


def drawer(name: str, model: Any, instead: str = "") -> Callable[..., np.ndarray]:
    """Return `(qpos=..., qvel=..., ...) -> [H, W, 3] uint8`, by fields of `MjData`.

    Args:
      name: of the environment, for messages.
      model: `mujoco.MjModel`.
      instead: what to do where there is no OpenGL, beside making it be there.

    Raises:
      ValueError: when it draws, without OpenGL.
    """
    made: list[Any] = []  # a renderer takes longer than a picture

    def draw(**fields):
        import mujoco

        try:
            if not made:
                renderer = mujoco.Renderer(model, height=_HEIGHT, width=_WIDTH)
                made.extend((renderer, mujoco.MjData(model)))
            renderer, data = made
            for field, value in fields.items():
                getattr(data, field)[:] = np.asarray(value)
            mujoco.mj_forward(model, data)
            renderer.update_scene(data)
            return renderer.render()
        except Exception as error:
            what = f"{type(error).__name__}: {error}".splitlines()[0]
            raise checks.OptionError(
                f"render of {name} failed with {what}; {_SCREEN}{instead}"
            ) from error

    return draw
