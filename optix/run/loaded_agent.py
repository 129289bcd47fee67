"""The best policy of a run with an agent outside JAX, as an object that acts."""

import os
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from optix import checks
from optix.host.agent import BaseAgent, hand_over
from optix.host.masked import given_mask
from optix.onnx.file import annotate, checked_path
from optix.types import Masked, PyTree


class LoadedAgent:
    """A host agent with the best weights of a run.

    An agent that remembers (`carry`) goes on from what it has acted on until `reset`.

    agent: the agent itself, `agent.action_probs` say.
    hyperparams: {name: float} that it was trained with.
    score: how it was scored.
    """

    agent: BaseAgent
    hyperparams: dict[str, float]
    score: float

    def __init__(
        self,
        agent: BaseAgent,
        hyperparams: Mapping[str, Any],
        score: Any,
        *,
        masked: bool | None = None,
    ):
        """See the class; the weights are in the agent already.

        `masked` says whether it is shown which actions are allowed, None that nobody
        knows; of an agent that does not take masks it is no.
        """
        self.agent, self.score = agent, float(score)
        self.masked = masked if agent.takes_masks else False
        self.hyperparams = {name: float(value) for name, value in hyperparams.items()}
        hand_over(agent, self.hyperparams)
        self._rows: int | None = None

    def act(
        self, observation: Any, explore: bool = False, *, action_mask: Any = None
    ) -> PyTree:
        """Return the action of one observation, as the environment takes it.

        `action_mask` is [n], as of `act_batch`.
        """
        rows = jax.tree.map(lambda x: np.asarray(x)[None], observation)
        mask = None if action_mask is None else given_mask(action_mask, ())[None]
        actions = self.act_batch(rows, explore, action_mask=mask)
        return jax.tree.map(lambda x: x[0], actions)

    def act_batch(
        self, observations: PyTree, explore: bool = False, *, action_mask: Any = None
    ) -> PyTree:
        """Return the actions of a batch [B, ...].

        Args:
            observations: [B, ...], of B environments.
            explore: act as in training, not deterministically.
            action_mask: [B, n] bool, or 0 and 1, the actions that are allowed: of an
                environment that tells them, if the agent takes masks, and of no other.

        Raises:
            ValueError: no mask where there must be one, or one that allows nothing; of an
                agent that remembers, another B than before without `reset`.
        """
        checks.boolean("explore", explore)
        copies = jax.tree.map(np.array, observations)
        rows = len(jax.tree.leaves(copies)[0])
        copies = self._with_mask(copies, rows, action_mask)
        if self._rows != rows:
            if self._rows is not None and self.agent.carry is not None:
                raise checks.OptionError(
                    f"the agent remembers {self._rows} rows, got {rows}; call reset() "
                    "where other episodes begin"
                )
            self.agent.begin_episode(np.ones(rows, bool))
            self._rows = rows
        return self.agent.act_batch(copies, explore=explore)[0]

    def _with_mask(self, observations: PyTree, rows: int, mask: Any) -> PyTree:
        """Return a batch as the agent takes it."""
        if self.masked is not None and self.masked != (mask is not None):
            rule, why = "must be None", "does not take masks"
            if self.agent.takes_masks:
                why = "has learned where all actions are allowed"
            if self.masked:
                rule, why = "must be given", "has learned which actions are allowed"
            raise checks.OptionError(
                f"action_mask {rule}: {type(self.agent).__name__} {why}, got {mask!r}"
            )
        if mask is None:
            return observations
        return Masked(observations, given_mask(mask, (rows,)))

    def reset(self, which: Any = None) -> None:
        """Forget what was acted on: where episodes begin.

        Args:
            which: [B] bool, rows of the batch; None forgets all and lets the next batch
                have another size.

        Raises:
            ValueError: `which` of another length than the batch.
        """
        if which is None:
            self.agent.carry = self._rows = None
            return
        which = np.asarray(which, bool)
        if which.shape != (self._rows,):
            raise checks.OptionError(
                f"which must be [B] for the B={self._rows} rows acted on, got a shape of "
                f"{which.shape}"
            )
        self.agent.begin_episode(which)

    def export_onnx(self, path: str | os.PathLike) -> None:
        """Write the deterministic policy as an ONNX file, as the agent does.

        Where it is shown which actions are allowed, "action_mask" [batch, n] is an input.

        Raises:
            NotImplementedError: the agent has no way to.
            ValueError: a path that can not be written to.
            ImportError: a package that it needs is not installed.
        """
        where = checked_path(path)
        options = {"action_mask": True} if self.masked else {}
        self.agent.export_onnx(os.fspath(where), **options)
        annotate(where, {"score": f"{self.score:.6g}"})

    def __repr__(self) -> str:
        """Say what it is and how well it plays."""
        return f"LoadedAgent({type(self.agent).__name__}, score {self.score:.5g})"
