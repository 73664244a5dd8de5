"""LAMB (You and others; arXiv 1904.00962): Adam whose step is as long as the layer's weights are."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor


class Lamb(torch.optim.Optimizer):
    """LAMB, with the choices in which implementations differ.

    ```text
    m ← β₁ m + (1 - β₁) g        v ← β₂ v + (1 - β₂) g²
    u = m̂ / (√v̂ + ε) + λ w       w ← w - η · r · u,    r = ‖w‖ / ‖u‖, or 1 where one of them is 0
    ```

    with m̂ = m / (1 - β₁ᵗ) and v̂ = v / (1 - β₂ᵗ), or m and v themselves without `bias_correction`.

    Args:
        params: parameters, or groups of them.
        lr: η.
        betas: (β₁, β₂).
        eps: ε.
        weight_decay: λ.
        always_adapt: also where λ is 0 (biases, normalisation) does r scale the step; as a rule it is 1 there.
        bias_correction: see above.

    Raises:
        ValueError: an argument has an impossible value.
    """

    def __init__(
        self,
        params: Iterable[Tensor] | Iterable[dict[str, Any]],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-6,
        weight_decay: float = 0.0,
        *,
        always_adapt: bool = False,
        bias_correction: bool = True,
    ) -> None:
        if lr < 0 or eps < 0 or weight_decay < 0:
            raise ValueError(f"lr {lr}, eps {eps} and weight_decay {weight_decay} cannot be negative")
        if not all(0 <= beta < 1 for beta in betas):
            raise ValueError(f"betas are {betas}; they lie from 0 to below 1")
        defaults = {
            "lr": lr,
            "betas": betas,
            "eps": eps,
            "weight_decay": weight_decay,
            "always_adapt": always_adapt,
            "bias_correction": bias_correction,
        }
        super().__init__(params, defaults)

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """One step; `closure` computes the loss anew, with gradients, and it is returned."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            by_place: dict[tuple[torch.device, torch.dtype], list[Tensor]] = {}
            for parameter in group["params"]:
                if parameter.grad is not None:
                    by_place.setdefault((parameter.device, parameter.dtype), []).append(parameter)
            for parameters in by_place.values():
                self._step(parameters, group)
        return loss

    def _step(self, parameters: list[Tensor], group: dict[str, Any]) -> None:
        beta1, beta2 = group["betas"]
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        for parameter in parameters:
            if not self.state[parameter]:
                self.state[parameter] = {
                    "step": torch.zeros((), dtype=torch.float32),
                    "exp_avg": torch.zeros_like(parameter),
                    "exp_avg_sq": torch.zeros_like(parameter),
                }
            self.state[parameter]["step"] += 1
        steps = [float(self.state[parameter]["step"]) for parameter in parameters]
        first = [self.state[parameter]["exp_avg"] for parameter in parameters]
        second = [self.state[parameter]["exp_avg_sq"] for parameter in parameters]
        torch._foreach_lerp_(first, gradients, 1 - beta1)
        torch._foreach_mul_(second, beta2)
        torch._foreach_addcmul_(second, gradients, gradients, 1 - beta2)
        below = torch._foreach_sqrt(second)
        if group["bias_correction"]:
            torch._foreach_div_(below, [(1 - beta2**step) ** 0.5 for step in steps])
        torch._foreach_add_(below, group["eps"])
        updates = torch._foreach_div(first, below)
        if group["bias_correction"]:
            torch._foreach_div_(updates, [1 - beta1**step for step in steps])
        if group["weight_decay"]:
            torch._foreach_add_(updates, parameters, alpha=group["weight_decay"])
        if group["weight_decay"] or group["always_adapt"]:
            ratios = [
                torch.where((weight > 0) & (update > 0), weight / update, torch.ones_like(weight))
                for weight, update in zip(torch._foreach_norm(parameters), torch._foreach_norm(updates), strict=True)
            ]
            torch._foreach_mul_(updates, ratios)
        torch._foreach_add_(parameters, updates, alpha=-float(group["lr"]))
