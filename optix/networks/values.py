"""Values of discrete actions: plain, dueling, and as distributions over atoms."""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
from flax import linen

from optix import checks
from optix.networks.dense import Dense
from optix.networks.images import checked_convolutions
from optix.networks.mlp import ACTIVATIONS, Torso, checked_hidden
from optix.networks.module import module_network
from optix.networks.noisy import apply_with_noise
from optix.types import Discrete, Network


class ActionValues(linen.Module):
    """A value of each action, or logits over the atoms of its distribution."""

    observation_rank: int
    actions: int
    hidden: tuple[int, ...]
    activation: Callable[[jax.Array], jax.Array]
    dueling: bool
    num_atoms: int | None
    layer_norm: bool = False
    convolutions: str | None = None

    @linen.compact
    def __call__(self, obs):
        """Map [..., *observation_shape] to [..., n] or [..., n, num_atoms]."""
        atoms = self.num_atoms or 1
        shared = self.hidden[:-1] if self.dueling else self.hidden
        options = (self.activation, self.layer_norm, self.convolutions)
        x = Torso(self.observation_rank, shared, *options, name="torso")(obs)

        def head(name, outputs):
            h = x
            if self.dueling:
                h = Dense(self.hidden[-1], name=f"{name}_hidden")(h)
                h = self.activation(linen.LayerNorm()(h) if self.layer_norm else h)
            return Dense(outputs, name=name)(h)

        out = head("advantage" if self.dueling else "values", self.actions * atoms)
        out = out.reshape(*x.shape[:-1], self.actions, atoms)
        if self.dueling:
            value = head("value", atoms)[..., None, :]
            out = value + out - out.mean(-2, keepdims=True)
        return out if self.num_atoms else out.squeeze(-1)


def action_values(
    observation_shape: Sequence[int],
    action_space: Discrete,
    *,
    hidden: Sequence[int] = (128, 128),
    activation: str = "relu",
    dueling: bool = False,
    num_atoms: int | None = None,
    layer_norm: bool = False,
    convolutions: str | None = None,
) -> Network:
    """Return the network of DQN, with atoms of Rainbow, with layer norms of PQN.

    Args:
      observation_shape: of one observation; rank 3 is an image, channels last.
      action_space: `Discrete`.
      hidden: widths of the hidden layers; the last one is each stream's own if dueling.
      activation: one of tanh, relu, silu, gelu, elu.
      dueling: a state's value and each action's advantage, in streams of their own
        (https://arxiv.org/abs/1511.06581).
      num_atoms: logits of a distribution over so many returns; None gives plain values.
      layer_norm: standardise what goes into each activation over the features
        (https://arxiv.org/abs/1607.06450), as PQN needs it.
      convolutions: of images, see `optix.networks.mlp.actor_critic`.

    Raises:
      ValueError: actions that are not discrete, sizes below one, unknown names.

    >>> network = action_values((4,), Discrete(2), dueling=True, num_atoms=51)
    >>> params, structure = network.init(jax.random.key(0))
    >>> network.apply(params, structure, (), jnp.zeros((8, 4)))[1].shape
    (8, 2, 51)
    """
    checks.record("action_space", action_space, Discrete, "action values need it")
    checks.positive_int("n of Discrete actions", action_space.n)
    checks.known_names("activation", [activation], ACTIVATIONS)
    checks.boolean("dueling", dueling)
    checks.boolean("layer_norm", layer_norm)
    if num_atoms is not None:
        checks.positive_int("num_atoms", num_atoms, 2)
    shape = checks.shape("observation_shape", observation_shape)
    module = ActionValues(
        observation_rank=len(shape),
        actions=action_space.n,
        hidden=checked_hidden(hidden),
        activation=ACTIVATIONS[activation],
        dueling=dueling,
        num_atoms=num_atoms,
        layer_norm=layer_norm,
        convolutions=checked_convolutions(convolutions, shape),
    )
    network = module_network(module, jnp.zeros((1, *shape)))

    def noisy(params, structure, key, obs):
        def apply(params, obs):
            return network.apply(params, structure, (), obs)[1]

        return apply_with_noise(apply, params, key, obs, dense_rows=True)

    return network._replace(noisy=noisy)
