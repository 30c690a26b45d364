"""The baseline: a U-Net on pixels.

Ronneberger, Fischer and Brox 2015, "U-Net: Convolutional Networks for Biomedical Image Segmentation", with padded
convolutions, batch normalisation, and widths for 64x64 frames.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from collections.abc import Sequence


class DoubleConv(nn.Sequential):
    """Two 3x3 convolutions, each normalised and rectified: [B, C_in, H, W] -> [B, C_out, H, W]."""

    def __init__(self, c_in: int, c_out: int) -> None:
        super().__init__(
            nn.Conv2d(c_in, c_out, 3, padding=1, bias=False),
            nn.BatchNorm2d(c_out),
            nn.ReLU(),
            nn.Conv2d(c_out, c_out, 3, padding=1, bias=False),
            nn.BatchNorm2d(c_out),
            nn.ReLU(),
        )


class UNet(nn.Module):
    """Four halvings by pooling, four doublings by transposed convolution, a skip at every level.

    Takes pictures [B, H, W, C] channel last, H and W divisible by 16, and gives logits [B, H, W].
    """

    def __init__(self, c_in: int, width: int) -> None:
        super().__init__()
        widths = [width << level for level in range(5)]
        self.down = nn.ModuleList(DoubleConv(a, b) for a, b in zip([c_in, *widths[:-1]], widths, strict=True))
        self.pool = nn.MaxPool2d(2)
        pairs = list(zip(widths[:0:-1], widths[-2::-1], strict=True))
        self.enlarge = nn.ModuleList(nn.ConvTranspose2d(a, b, 2, stride=2) for a, b in pairs)
        self.up = nn.ModuleList(DoubleConv(2 * b, b) for _, b in pairs)
        self.out = nn.Conv2d(width, 1, 1)

    def forward(self, pictures: Tensor) -> Tensor:
        """Segment a batch."""
        x = pictures.movedim(-1, 1)
        skips: list[Tensor] = []
        for level, block in enumerate(self.down):
            x = block(self.pool(x) if level else x)
            skips.append(x)
        for enlarge, block, skip in zip(self.enlarge, self.up, skips[-2::-1], strict=True):
            x = block(torch.cat([enlarge(x), skip], 1))
        logits: Tensor = self.out(x)
        return logits[:, 0]


class StridedUNet(nn.Module):
    """Strided convolutions down to 4x4x512 and transposed ones back up, with skips: the paper's heavy decoder.

    Takes [B, 64, 64] and gives logits [B, 64, 64].
    """

    def __init__(self, widths: Sequence[int] = (64, 128, 256, 512)) -> None:
        super().__init__()
        inputs = [1, *widths[:-1]]
        self.down = nn.ModuleList(
            nn.Sequential(nn.Conv2d(a, b, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(b), nn.ReLU())
            for a, b in zip(inputs, widths, strict=True)
        )
        outputs = [*widths[-2::-1], 32]
        self.up = nn.ModuleList(
            nn.Sequential(nn.ConvTranspose2d(a, b, 4, stride=2, padding=1, bias=False), nn.BatchNorm2d(b), nn.ReLU())
            for a, b in zip([widths[-1], *(2 * w for w in widths[-2::-1])], outputs, strict=True)
        )
        self.out = nn.Conv2d(outputs[-1] + 1, 1, 3, padding=1)

    def forward(self, picture: Tensor) -> Tensor:
        """Segment a batch."""
        x = picture[:, None]
        skips = [x]
        for block in self.down:
            x = block(x)
            skips.append(x)
        for block, skip in zip(self.up, skips[-2::-1], strict=True):
            x = torch.cat([block(x), skip], 1)
        logits: Tensor = self.out(x)
        return logits[:, 0]
