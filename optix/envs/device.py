"""Environments on the device: gymnax's own, and any that speak its protocol."""

import contextlib
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from optix import checks
from optix.envs.actions import action_decoder, action_space
from optix.envs.checked import state_types
from optix.envs.families.spoken import Spoken
from optix.envs.families.table import family_of, full_name
from optix.envs.families.table import world as family_world
from optix.envs.kinds import is_a
from optix.envs.masking import action_mask
from optix.envs.names import gymnasium_name, is_gymnasium
from optix.envs.observations import observation_encoder, observation_shape
from optix.envs.parts import Parts, has_parts
from optix.envs.pictures import pixels, renderer
from optix.envs.tasks import Tasks
from optix.envs.wrappers import Protocol, protocol
from optix.forms import action_form
from optix.trees import select_rows
from optix.types import Environment, EnvStep, Masked, PyTree
from optix.xla.threefry import plain, unrolled

_NEEDS_DOWNLOAD = {"MNISTBandit-bsuite"}
_PARTS = (
    "observation_space",
    "action_space",
    "reset_env",
    "step_env",
    "is_truncated",
)


def device(
    env: Any,
    env_params: Any = None,
    *,
    name: str | None = None,
    task: Callable[[jax.Array], Any] | None = None,
) -> Environment:
    """Return the `Environment` of a gymnax name or of an instance of its protocol.

    The protocol is gymnax 1.0's: `reset_env`, `step_env`, `is_truncated`,
    `observation_space`, `action_space` and `default_params`. An environment or wrapper
    of any class that has a public `step` of its own is stepped through that, so that even
    `play` goes on with a fresh state after an end; its `next_obs` is right all the same.
    An override that would never be called is refused.

    An environment may say which of its discrete actions are allowed, by a method
    `action_mask(state, params) -> [n] bool`; observations are then `Masked`, and agents
    act and learn under the mask. A mask that allows nothing counts as one that allows
    everything; at a first state it is refused. Of one that replaces its ended episodes
    itself the mask before the reset is not known: then everything is allowed in
    `next_obs`. Of Pgx the method is `return state.legal_action_mask`, of Jumanji it is
    the observation's `action_mask` kept in the state.

    Args:
      env: a registered gymnax name, or an environment or wrapper; or a name or an
        environment of one of `optix.envs.families`, as "brax:ant".
      env_params: its parameters; None takes `default_params`.
      name: how messages call it; None takes the name or the class.
      task: `(key) -> parameters` like `env_params`, drawn wherever an episode begins:
        several tasks in one run. They are a part of the state, one of each environment,
        so that a step compiles once for all of them; an evaluation draws by keys of its
        own. Spaces and time limit are those of `env_params`. None plays `env_params`.

    Raises:
      ValueError: an unknown name, a part of the protocol or a time limit missing, spaces
        that no agent can use, parameters of another environment, a wrapper that would
        not be seen, or results of a wrong form.

    >>> env = device("CartPole-v1")
    >>> env.observation_shape, env.action_space, env.time_limit
    ((4,), Discrete(n=2), 500)
    """
    if name is not None and not (isinstance(name, str) and name):
        raise checks.OptionError(f"name must be a string or None, got {name!r}")
    found = full_name(env) if isinstance(env, str) else env
    if family_of(found) is not None:
        world = family_world(found, env_params)
        env, env_params, name = Spoken(world), None, name or world.name
        if task is not None:
            checks.function("task", task, "it takes a key and gives parameters")
            task = env.tasks(task)
    if isinstance(env, str):
        name = name or env
        env, default_params = _registered(env)
    else:
        name = name or type(env).__name__
        _check_protocol(name, env)
        default_params = getattr(env, "default_params", None)
    params = default_params if env_params is None else env_params
    time_limit = _time_limit(name, params)
    _check_params(name, params, default_params)
    if task is not None:
        env = Tasks(name, env, params, task)

    observations, actions = _spaces(name, env, params)
    encode, decode = (
        observation_encoder(name, observations),
        action_decoder(name, actions),
    )
    shape, space = observation_shape(name, observations), action_space(name, actions)
    action = jax.eval_shape(decode, action_form(space))
    parts = Parts(name, observations) if has_parts(observations) else None
    form = (
        (tuple(observations.shape), action)
        if parts is None
        else (shape, action, parts.join)
    )
    raw, (state_type, kind) = _checked(name, protocol(name, env, params), form)
    kept = jnp.dtype(bool) if is_a(observations, "Discrete") else kind
    mask = action_mask(name, env, params, space, raw.reset, state_type)

    def shown(state, obs, unknown=None):
        obs = jax.vmap(encode)(obs)
        if mask is None:
            return obs
        allowed = jax.vmap(mask)(state)
        return Masked(obs, allowed if unknown is None else allowed | unknown[:, None])

    def reset(key, batch):
        keys = jax.random.split(unrolled(key), batch)
        obs, state = jax.vmap(raw.reset)(keys)
        # a Python number in a fresh state must not change its type at the first step
        state = jax.tree.map(lambda x, y: jnp.asarray(x, y.dtype), state, state_type)
        return state, shown(state, obs)

    def play(key, state, action):
        keys = jax.random.split(unrolled(key), action.shape[0])
        result = jax.vmap(raw.step)(keys, state, jax.vmap(decode)(action))
        obs, state, reward, terminated, truncated, final_obs = result
        ended = jnp.asarray(terminated, bool), jnp.asarray(truncated, bool)
        replaced = ended[0] | ended[1] if raw.replaces else None
        step = EnvStep(
            shown(state, obs),
            jnp.asarray(reward, jnp.float32),
            *ended,
            next_obs=shown(state, final_obs, replaced),
        )
        return state, step

    def step(key, state, action):
        if raw.replaces:
            return play(key, state, action)
        key, reset_key = jax.random.split(unrolled(key))
        state, result = play(key, state, action)
        done = result.terminated | result.truncated
        fresh_state, fresh_obs = reset(reset_key, done.shape[0])

        state, obs = select_rows(done, (fresh_state, fresh_obs), (state, result.obs))
        return state, result._replace(obs=obs)

    return Environment(
        name,
        shape,
        space,
        time_limit,
        reset,
        step,
        play,
        decode,
        masked=mask is not None,
        parts=parts,
        render=_picture(name, env, params),
        html=getattr(env, "html", None),
        kept_dtype=kept if kept.itemsize < 4 else None,
    )


def _picture(name: str, env: Any, params: Any) -> Callable[[PyTree], Any] | None:
    """Return `(state) -> [H, W, 3] uint8` of one environment, None without a picture."""
    draw = renderer(env)
    if draw is None:
        return None

    def render(state):
        try:
            return pixels(name, draw(state, params))
        except checks.OptionError:
            raise
        except Exception as error:
            raise checks.OptionError(
                f"render of {name} failed with {type(error).__name__}: {error}"
            ) from error

    return render


def _registered(name: str) -> tuple[Any, Any]:
    import gymnax  # it imports matplotlib and pandas

    checks.known_names("environment", [name], gymnax.registered_envs)
    if name in _NEEDS_DOWNLOAD:
        raise checks.OptionError(
            f"{name} downloads its data when it is made; make it yourself and pass the "
            "instance"
        )
    return gymnax.make(name)


def _check_protocol(name: str, env: Any) -> None:
    if isinstance(env, type):
        raise checks.OptionError(
            f"env must be an instance, got the class {env.__name__}"
        )
    if is_gymnasium(env):
        raise checks.OptionError(
            f"env must run on the device, got the Gymnasium environment "
            f"{gymnasium_name(env)}, which runs on the host; optix.envs.hosted.hosted("
            "env) is for that, as optix.make(env) knows"
        )
    missing = [function for function in _PARTS if not hasattr(env, function)]
    if missing:
        raise checks.OptionError(
            f"env: {name} must have {', '.join(_PARTS)} (the protocol of gymnax 1.0), but "
            f"lacks {', '.join(missing)}"
        )


def _time_limit(name: str, params: Any) -> int:
    limit: Any = getattr(params, "max_steps_in_episode", None)
    with contextlib.suppress(TypeError, ValueError, OverflowError):
        if not isinstance(limit, bool) and 1 <= float(limit) < 2**31:
            return math.ceil(limit)  # of 2.5 the third step is the last
    raise checks.OptionError(
        f"env_params of {name} must be like its default_params, with a "
        "max_steps_in_episode >= 1, the time limit by which evaluation ends, got "
        f"{limit!r} in {params!r}"
    )


def _check_params(name: str, params: Any, default_params: Any) -> None:
    """Refuse parameters that lack a field of the environment's own."""
    fields = getattr(default_params, "__dataclass_fields__", None)
    fields = fields or getattr(default_params, "_fields", ())
    missing = [field for field in fields if not hasattr(params, field)]
    if missing:
        kind = type(default_params).__name__
        raise checks.OptionError(
            f"env_params of {name} must be {kind} like its default_params, got "
            f"{params!r} without {', '.join(missing)}; change fields of those"
        )


def _spaces(name: str, env: Any, params: Any) -> tuple[Any, Any]:
    """Return the spaces of observations and actions."""
    try:
        return env.observation_space(params), env.action_space(params)
    except Exception as error:
        raise checks.OptionError(
            f"the spaces of {name} failed with {type(error).__name__}: {error}; mend "
            "observation_space and action_space, or env_params"
        ) from error


def _checked(
    name: str, raw: Protocol, form: tuple
) -> tuple[Protocol, tuple[PyTree, Any]]:
    """Return the functions on keys of the faster kind, and what `state_types` says.

    An environment that mixes the keys that it is given with keys that it makes itself
    gets JAX's own. In states there are only JAX's own: they are saved. `form` is what
    `state_types` is told of observations and actions.
    """
    fast = _with_keys(raw, unrolled)
    try:
        return fast, state_types(name, fast, *form)
    except ValueError:
        usual = _with_keys(raw, plain)
        return usual, state_types(name, usual, *form)


def _with_keys(raw: Protocol, given: Callable[[jax.Array], jax.Array]) -> Protocol:
    """Return the functions with all keys that they are given converted by `given`."""

    def converted(tree, convert):
        return jax.tree.map(lambda x: convert(x) if _is_key(x) else x, tree)

    def reset(key):
        return converted(raw.reset(given(key)), plain)

    def step(key, state, action):
        result = raw.step(given(key), converted(state, given), action)
        return converted(result, plain)

    return Protocol(reset, step, raw.replaces)


def _is_key(leaf: Any) -> bool:
    dtype = getattr(leaf, "dtype", None)
    return dtype is not None and jax.dtypes.issubdtype(dtype, jax.dtypes.prng_key)
