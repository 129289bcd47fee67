"""What a Stable-Baselines3 model computes of observations, as an exporter can trace it."""

# Stable-Baselines3 is optional, also where types are checked
# pyright: reportMissingImports=false

from __future__ import annotations

from typing import Any

import torch

from optix import checks
from optix_torch.sb3_model import is_on_policy


def model_inputs(model: Any) -> dict[str, tuple[int, ...]]:
    """Return the shape of one observation; images as the model has them, channels first.

    Raises:
      ValueError: observations are no single array.
    """
    space = model.observation_space
    if hasattr(space, "spaces") or space.shape is None:
        raise checks.OptionError(
            "observations of a model must be one array to export it, got "
            f"{type(space).__name__}; flatten them with a wrapper "
            "(gymnasium.wrappers.FlattenObservation)"
        )
    return {"observation": tuple(int(size) for size in space.shape)}


def model_outputs(model: Any, observation: torch.Tensor) -> dict[str, torch.Tensor]:
    """Return what actions are chosen from, by name, and the greedy "action" [B, ...].

    Args:
      model: on or off policy.
      observation: [B, ...] float32, before any VecNormalize.
    """
    seen = _normalized(model, observation)
    policy = model.policy
    if is_on_policy(model):
        return _on_policy(policy, seen, model.action_space)
    if hasattr(policy, "q_net"):
        values = policy.q_net(seen)
        return {"q_values": values, "action": values.argmax(-1)}
    if hasattr(policy.actor, "get_action_dist_params"):
        mean, log_scale, _ = policy.actor.get_action_dist_params(seen)
        found = {"mean": mean, "log_scale": log_scale}
        if policy.actor.use_sde:
            del found["log_scale"]  # of weights, not of actions
        return {**found, "action": _unscaled(mean.tanh(), model.action_space)}
    action = policy.actor(seen)
    return {"unit_action": action, "action": _unscaled(action, model.action_space)}


def _on_policy(policy: Any, seen: torch.Tensor, space: Any) -> dict[str, torch.Tensor]:
    features = policy.extract_features(seen)
    if isinstance(features, tuple):  # the critic has features of its own
        features = features[0]
    out = policy.action_net(policy.mlp_extractor.forward_actor(features))
    if hasattr(space, "low"):
        found = {"mean": out}
        if not policy.use_sde:
            found["log_scale"] = policy.log_std.expand_as(out)
        if policy.squash_output:
            return {**found, "action": _unscaled(out.tanh(), space)}
        low, high = _ends(out, space)
        action = out.reshape(-1, *space.shape).clamp(low, high)
        return {**found, "action": action}
    if hasattr(space, "nvec"):
        parts = out.split([int(n) for n in space.nvec], -1)
        action = torch.stack([logits.argmax(-1) for logits in parts], -1)
    elif type(space).__name__ == "MultiBinary":
        action = (out > 0).to(torch.int8)
    else:
        action = out.argmax(-1)
    return {"logits": out, "action": action}


def _normalized(model: Any, observation: torch.Tensor) -> torch.Tensor:
    around = model.get_vec_normalize_env()
    if around is None or not around.norm_obs:
        return observation
    moments, limit = around.obs_rms, around.clip_obs
    mean, variance = (
        torch.as_tensor(x, dtype=torch.float32, device=observation.device)
        for x in (moments.mean, moments.var + around.epsilon)
    )
    return ((observation - mean) * variance.rsqrt()).clamp(-limit, limit)


def _unscaled(action: torch.Tensor, space: Any) -> torch.Tensor:
    low, high = _ends(action, space)
    return low + 0.5 * (action.reshape(-1, *space.shape) + 1.0) * (high - low)


def _ends(like: torch.Tensor, space: Any) -> list[torch.Tensor]:
    return [torch.as_tensor(end, device=like.device) for end in (space.low, space.high)]
