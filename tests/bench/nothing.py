"""Nothing: what a training process loads before it does anything."""

import torch

torch.zeros(1)
