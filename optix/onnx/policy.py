"""The policy of a JAX agent as an ONNX file."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from optix import checks
from optix.forms import number_of_actions
from optix.onnx.carries import carries
from optix.onnx.file import MEANINGS, checked_path, require_onnx, save
from optix.onnx.row import row_model
from optix.onnx.steps import UnsupportedError
from optix.types import Agent, Environment, Masked, Policy, PyTree

_DTYPES = tuple(map(np.dtype, ("float32", "uint8")))  # of observations


def export_policy(
    agent: Agent,
    policy: Policy,
    path: str | os.PathLike,
    *,
    env: Environment | None = None,
    observation_shape: tuple[int, ...] | None = None,
    observation_dtype: Any = np.float32,
    hyperparams: Mapping[str, Any] | None = None,
    meanings: Mapping[str, str] | None = None,
    about: Mapping[str, Any] | None = None,
) -> None:
    """Write a policy as an ONNX file that takes observations of any batch.

    Inputs are "observation" [batch, ...], as the environment gives it, of a masked one
    "action_mask" [batch, n], and of a policy that remembers "carry..." [batch, ...].
    Outputs are what `Agent.outputs` gives, by the agent's names for it ("logits", "mean"
    and "log_scale", "q_values"), the greedy "action", within the environment's bounds,
    and "next_carry...". The normaliser is part of it.

    Args:
      agent: an agent of JAX.
      policy: of it.
      path: of the file; one that is there is replaced.
      env: the environment, of which observations and actions are.
      observation_shape: of one observation, where there is no `env`; actions are then as
        the agent gives them, of a box in [-1, 1].
      observation_dtype: float32 or uint8, where there is no `env`.
      hyperparams: {name: []} of `act`; the agent's are taken for others.
      meanings: {name of an input or output: what it is}, beside those known.
      about: further metadata by name.

    Raises:
      ValueError: a path that can not be written to, neither `env` nor a shape, an
        operation that has no ONNX form here (UnsupportedError).
      ImportError: onnx is not installed.

    Example: `export_policy(agent, policy, "policy.onnx", env=env)`.
    """
    checks.record("agent", agent, Agent, "make one by optix.make_agent")
    checks.record("policy", policy, Policy, "take it from agent.init or a state")
    require_onnx()
    checked_path(path)
    if (env is None) == (observation_shape is None):
        raise checks.OptionError(
            "export_policy must be given either env= or observation_shape=, got "
            f"{'neither' if env is None else 'both'}"
        )
    if env is not None:
        checks.record("env", env, Environment, "make one by optix.envs.environment")
        observation_shape, observation_dtype = (
            env.observation_shape,
            env.observation_dtype,
        )
    elif observation_dtype not in _DTYPES:
        raise checks.OptionError(
            f"observation_dtype must be float32 or uint8, got {observation_dtype!r}"
        )
    shape = checks.shape("observation_shape", observation_shape)
    given = checks.mapping("hyperparams", hyperparams, "{name: number}")
    said = checks.mapping("meanings", meanings, "{name of an input or output: text}")
    about = checks.mapping("about", about, "{name: value}")
    carry = carries(jax.tree.map(lambda x: np.asarray(x[0]), agent.initial_carry(1)))
    inputs = {
        "observation": jax.ShapeDtypeStruct(shape, np.dtype(observation_dtype)),
        **carry.inputs,
    }
    if env is not None and env.masked:
        number = number_of_actions(env.name, env.action_space)
        inputs["action_mask"] = jax.ShapeDtypeStruct((number,), np.dtype(bool))
    decode = None if env is None else env.decode
    hyperparams = {**agent.hyperparams, **given}

    def row(given, with_action):
        held = jax.tree.map(lambda x: x[None], carry.tree(given))
        obs = given["observation"][None]
        if "action_mask" in given:
            obs = Masked(obs, given["action_mask"][None])
        found, after = {}, held
        if agent.outputs is not None:
            after, out = agent.outputs(policy, held, obs)
            found = _named(agent.output_names, jax.tree.map(lambda x: x[0], out))
        if with_action:
            key = jax.random.key(0)  # nothing is drawn
            after, action, _ = agent.act(policy, held, obs, hyperparams, key, False)
            action = action[0]
            found["action"] = action if decode is None else decode(action)
        return found | carry.outputs(jax.tree.map(lambda x: x[0], after))

    said = {**MEANINGS, **carry.meanings(), **said}
    try:
        model = row_model(lambda given: row(given, True), inputs, said, ("action",))
    except UnsupportedError as error:
        if agent.outputs is None:
            raise
        # a distribution of the user's own may choose by what ONNX has no form of
        model = row_model(lambda given: row(given, False), inputs, said)
        about["without_action"] = str(error)
    name = None if env is None else env.name
    save(model, path, {"environment": name, "initial_carry": carry.about, **about})


def _named(names: tuple[str, ...], out: PyTree) -> dict[str, Any]:
    leaves = jax.tree.leaves(out)
    if len(names) != len(leaves):
        names = tuple(f"output_{number}" for number in range(len(leaves)))
    return dict(zip(names, leaves, strict=True))
