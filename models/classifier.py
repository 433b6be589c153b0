"""The whole classifier as one module: raw pixels in, probabilities out.

This is what the contract promises of every artifact, so it is what gets exported
and what every artifact is compared with.
"""

from __future__ import annotations

from models.contract import LUMA, Contract
from models.errors import MissingExtraError

try:
    import torch
    from torch import Tensor, nn
except ImportError as error:
    raise MissingExtraError("torch", "torch", "Running a PyTorch model") from error


class Classifier(nn.Module):
    """Normalization, network and output activation.

    Args:
        net: normalized float32 `[N, 3, height, width]`, or `[N, 1, height, width]` where the
            contract says grayscale, to logits `[N, classes]`.
        contract: gives the normalization (units of 0..255 pixels) and the activation.
    """

    mean: Tensor
    std: Tensor
    luma: Tensor

    def __init__(self, net: nn.Module, contract: Contract) -> None:
        super().__init__()
        self.net = net
        self.contract = contract
        normalization = contract.preprocessing.normalization
        for name in ("mean", "std"):
            values = torch.tensor(getattr(normalization, name), dtype=torch.float32)
            self.register_buffer(name, values.reshape(1, 3, 1, 1), persistent=False)
        if contract.preprocessing.grayscale:
            luma = torch.tensor(LUMA, dtype=torch.float32)
            self.register_buffer("luma", luma.reshape(1, 3, 1, 1), persistent=False)

    def normalize(self, pixels: Tensor) -> Tensor:
        """uint8 NHWC `[N, H, W, 3]` to normalized float32 NCHW, three channels or one."""
        if pixels.dtype != torch.uint8 or pixels.ndim != 4 or pixels.shape[3] != 3:
            raise ValueError(
                f"expected uint8 [N, H, W, 3], got {pixels.dtype} {list(pixels.shape)}"
            )
        normalized = (pixels.permute(0, 3, 1, 2).float() - self.mean) / self.std
        if self.contract.preprocessing.grayscale:
            return nn.functional.conv2d(normalized, self.luma)
        return normalized

    def logits(self, pixels: Tensor) -> Tensor:
        """uint8 `[N, H, W, 3]` to logits, float32 `[N, classes]`."""
        logits: Tensor = self.net(self.normalize(pixels))
        return logits

    def forward(self, pixels: Tensor) -> Tensor:
        """uint8 `[N, H, W, 3]` to probabilities, float32 `[N, classes]`."""
        logits = self.logits(pixels)
        if self.contract.activation == "sigmoid":
            return torch.sigmoid(logits)
        return torch.softmax(logits, dim=1)
