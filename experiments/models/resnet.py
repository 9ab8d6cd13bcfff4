"""ResNet-18 as used on CIFAR (He et al. 2016, with a 3x3 stem and no first pooling)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut, a 1x1 convolution where the shape changes."""

    def __init__(self, in_channels: int, channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, channels, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.shortcut = nn.Sequential()
        if stride != 1 or in_channels != channels:
            self.shortcut = nn.Sequential(
                nn.Conv2d(in_channels, channels, 1, stride, bias=False), nn.BatchNorm2d(channels)
            )

    def forward(self, x: Tensor) -> Tensor:
        out = functional.relu(self.bn1(self.conv1(x)))
        return functional.relu(self.bn2(self.conv2(out)) + self.shortcut(x))


class ResNet18(nn.Module):
    """Input: (batch, in_channels, height, width). Output: (batch, classes) logits.

    `width` is the number of channels of the first stage; 64 is the usual one (11,220,132 parameters
    with 3 input channels and 100 classes).
    """

    def __init__(self, classes: int, in_channels: int = 3, width: int = 64) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(in_channels, width, 3, padding=1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(),
        )
        stages: list[nn.Module] = []
        channels = width
        for stage in range(4):
            out_channels = width * 2**stage
            stride = 1 if stage == 0 else 2
            stages.append(BasicBlock(channels, out_channels, stride))
            stages.append(BasicBlock(out_channels, out_channels, 1))
            channels = out_channels
        self.stages = nn.Sequential(*stages)
        self.head = nn.Linear(channels, classes)

    def forward(self, x: Tensor) -> Tensor:
        out = self.stages(self.stem(x))
        return self.head(torch.mean(out, dim=(2, 3)))


def cifar100() -> ResNet18:
    """The model of the published compression ratios."""
    return ResNet18(classes=100)


def resnet10(classes: int, in_channels: int, width: int) -> ResNet18:
    """ResNet-18 with one block a stage."""
    model = ResNet18(classes, in_channels, width)
    model.stages = model.stages[::2]
    return model
