"""A small CNN for small images: two strided-pool convolutions and a linear layer; trained in seconds on a CPU."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn


class SmallCNN(nn.Module):
    """Images in [0,1] (B,channels,H,W), any H,W >= 8 -> logits (B,classes); about 70 k parameters."""

    def __init__(self, channels: int = 1, classes: int = 10) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, 16, 5, padding=2)
        self.conv2 = nn.Conv2d(16, 32, 5, padding=2)
        self.hidden = nn.Linear(32 * 16, 100)
        self.linear = nn.Linear(100, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = F.max_pool2d(F.relu(self.conv1(x)), 2)
        x = F.max_pool2d(F.relu(self.conv2(x)), 2)
        x = F.adaptive_avg_pool2d(x, 4)
        return self.linear(F.relu(self.hidden(x.flatten(1))))
