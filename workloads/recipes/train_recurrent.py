"""Train a recurrent spiking network that reads an image of Fashion-MNIST row by row: 28 timesteps of 28 pixels.

Two layers of 128 LIF neurons (snnTorch's ``RLeaky``: leak 7/8, the threshold is subtracted after a spike); every neuron
of a layer reads the spikes that the whole layer fired a timestep before. A linear read-out of the second layer's spikes
gives logits in every timestep; their mean classifies.

    python train_recurrent.py --data DIR --checkpoints DIR
"""

from __future__ import annotations

import snntorch
import snntorch.utils
import torch
from snntorch import surrogate
from torch import Tensor, nn
from training import Schedule, arguments, train

SIDE = 28
NEURONS = 128
LEAK = 0.875
SLOPE = 10
"""Of the surrogate gradient (a fast sigmoid): with a smaller one gradients explode over 28 timesteps."""
SCHEDULE = Schedule(samples=240_000, batch=100, learning_rate=5e-3, weight_decay=1e-3, augment=False)


class Recurrent(nn.Module):
    def __init__(self, neurons: int = NEURONS) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(SIDE, neurons), nn.Linear(neurons, neurons)
        self.first_neurons, self.second_neurons = (
            snntorch.RLeaky(LEAK, linear_features=neurons, init_hidden=True, spike_grad=surrogate.fast_sigmoid(SLOPE))
            for _ in range(2)
        )
        self.read_out = nn.Linear(neurons, 10)

    def forward(self, row: Tensor) -> Tensor:
        """Logits [B, 10] of a row of pixels [B, 28] from 0 to 1, in one timestep."""
        spikes = self.first_neurons(self.first(row))
        return self.read_out(self.second_neurons(self.second(spikes)))


class RowByRow(nn.Module):
    """``network`` on the rows of an image: logits, the mean of those of all rows."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        snntorch.utils.reset(self.network)
        return torch.stack([self.network(row) for row in images[:, 0].unbind(1)]).mean(0)


def main() -> None:
    options = vars(arguments(__doc__).parse_args())
    torch.manual_seed(options["seed"])
    train("recurrent", RowByRow(Recurrent()), SCHEDULE, side=SIDE, **options)


if __name__ == "__main__":
    main()
