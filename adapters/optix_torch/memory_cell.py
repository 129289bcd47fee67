"""Torch's own recurrent modules as `(carry, observations) -> (carry, features)`."""

from __future__ import annotations

import torch
from torch import nn

from optix import checks


class Cell:
    """An nn.GRU, nn.LSTM or nn.RNN whose whole carry is one row [N, size].

    Args:
      rnn: of one direction, without projection.

    Raises:
      ValueError: another kind of module.

    >>> cell = Cell(nn.LSTM(3, 8, num_layers=2))
    >>> cell.size
    32
    >>> carry, features = cell.step(torch.zeros(5, 32), torch.zeros(5, 3))
    >>> carry.shape, features.shape
    (torch.Size([5, 32]), torch.Size([5, 8]))
    """

    def __init__(self, rnn: nn.RNNBase):
        """See the class."""
        checks.record("rnn", rnn, nn.RNNBase, "use nn.GRU or nn.LSTM")
        if rnn.bidirectional or rnn.proj_size or (rnn.dropout and rnn.num_layers > 1):
            raise checks.OptionError(
                "rnn must run forwards, without projection and dropout, got "
                f"{rnn}: what comes later is not known when it acts"
            )
        self.rnn = rnn
        self.parts = 2 if isinstance(rnn, nn.LSTM) else 1
        self.size = self.parts * rnn.num_layers * rnn.hidden_size

    def step(
        self, carry: torch.Tensor, inputs: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the carry [N, size] and features [N, hidden] after one step."""
        features, carry = self._run(inputs.unsqueeze(self._time), carry)
        return carry, features.squeeze(self._time)

    def sequence(self, carry: torch.Tensor, inputs: torch.Tensor) -> torch.Tensor:
        """Return features [N, S, hidden] of inputs [N, S, ...] from a carry [N, size]."""
        if not self.rnn.batch_first:
            inputs = inputs.transpose(0, 1)
        features, _ = self._run(inputs, carry)
        return features if self.rnn.batch_first else features.transpose(0, 1)

    @property
    def _time(self) -> int:
        return 1 if self.rnn.batch_first else 0

    def _run(self, inputs, carry):
        layers, width = self.rnn.num_layers, self.rnn.hidden_size
        hidden = carry.reshape(carry.shape[0], self.parts, layers, width)
        hidden = hidden.permute(1, 2, 0, 3).contiguous()
        given = (hidden[0], hidden[1]) if self.parts == 2 else hidden[0]
        features, after = self.rnn(inputs, given)
        after = torch.stack(after) if self.parts == 2 else after.unsqueeze(0)
        return features, after.permute(2, 0, 1, 3).reshape(carry.shape[0], self.size)
