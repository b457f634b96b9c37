"""Where the arithmetic is done."""

import torch


def arithmetic_device() -> torch.device:
    """Return the accelerator if torch sees one that speaks CUDA (ROCm's does), else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")
