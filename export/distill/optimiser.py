"""`Muon` for the convolutions, AdamW for the rest, and the rate at which both learn."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import torch
from torch import Tensor, nn

_NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)
_WARM_UP_STEPS = 200
_WARM_UP_SHARE = 0.05
_TAIL_SHARE = 0.2


class Muon(torch.optim.Optimizer):
    """Momentum whose update is made orthogonal, so that no direction of a layer's weights learns at the expense of the others.

    K. Jordan et al., "Muon: An optimizer for hidden layers in neural networks", 2024; a convolution is taken as a matrix of output
    channels by everything else. Updates are scaled to the size of AdamW's (J. Liu et al., "Muon is Scalable for LLM Training",
    arXiv:2502.16982), so that both share a learning rate. Weights of one shape are updated together.
    """

    def __init__(self, parameters: list[nn.Parameter], lr: float, momentum: float = 0.95, weight_decay: float = 0.0) -> None:
        super().__init__(parameters, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    def step(self, closure: Any = None) -> None:
        assert closure is None
        for group in self.param_groups:
            alike: dict[tuple[int, ...], list[nn.Parameter]] = defaultdict(list)
            for parameter in group["params"]:
                if parameter.grad is not None:
                    alike[tuple(parameter.shape)].append(parameter)
            with torch.no_grad():
                for parameters in alike.values():
                    self._update(parameters, group)

    def _update(self, parameters: list[nn.Parameter], group: dict[str, Any]) -> None:
        gradients = [p.grad for p in parameters]
        momenta = [self._momentum(p) for p in parameters]
        torch._foreach_lerp_(momenta, gradients, 1 - group["momentum"])
        ahead = torch._foreach_lerp(gradients, momenta, group["momentum"])  # Nesterov
        matrices = torch.stack([a.flatten(1) for a in ahead])
        scale = 0.2 * max(matrices.shape[1:]) ** 0.5
        steps = orthogonalised(matrices)
        for parameter, step in zip(parameters, steps, strict=True):
            parameter.mul_(1 - group["lr"] * group["weight_decay"]).add_(step.view(parameter.shape), alpha=-group["lr"] * scale)

    def _momentum(self, parameter: nn.Parameter) -> Tensor:
        state = self.state[parameter]
        if "momentum" not in state:
            state["momentum"] = torch.zeros_like(parameter, memory_format=torch.preserve_format)
        kept: Tensor = state["momentum"]
        return kept


def orthogonalised(matrices: Tensor) -> Tensor:
    """(N, rows, columns) -> matrices of the same singular vectors, whose singular values are near 1 (0.7 to 1.2)."""
    a, b, c = _NEWTON_SCHULZ
    tall = matrices.shape[1] > matrices.shape[2]
    x = matrices.mT if tall else matrices
    x = x / (x.norm(dim=(1, 2), keepdim=True) + 1e-7)
    for _ in range(5):
        squared = x @ x.mT
        x = a * x + (b * squared + c * squared @ squared) @ x
    return x.mT if tall else x


def learning_rate(highest: float, step: int, progress: float) -> float:
    """Warm-up over the first steps, then constant, then down to nothing in the last fifth of the whole, `progress` from 0 to 1.

    A constant rate in between lets a training be prolonged (S. Hu et al., "MiniCPM", arXiv:2404.06395). A short one warms up in its first
    twentieth.
    """
    warm = max((step + 1) / _WARM_UP_STEPS, progress / _WARM_UP_SHARE)
    return highest * min(1.0, warm, max(0.0, (1 - progress) / _TAIL_SHARE))
