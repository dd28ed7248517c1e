"""Muon (Keller Jordan, 2024): momentum whose matrices are made orthogonal before they are applied.

For the matrices of the layers it reaches a loss in far fewer tokens than AdamW, and tokens are what
a small machine lacks.
"""

import torch

COEFFICIENTS = (3.4445, -4.7750, 2.0315)


def orthogonal(stack, steps=5):
    """Moves all singular values of each matrix of the stack to about 1 (Newton-Schulz)."""
    a, b, c = COEFFICIENTS
    tall = stack.size(-2) > stack.size(-1)
    x = stack.mT if tall else stack
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    for _ in range(steps):
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x.mT if tall else x


class Muon(torch.optim.Optimizer):
    def __init__(self, matrices, lr, momentum=0.95, weight_decay=0.0):
        groups = {}
        for matrix in matrices:  # one shape a group, so that a group is orthogonalised in one go
            groups.setdefault(matrix.shape, []).append(matrix)
        super().__init__([{"params": group} for group in groups.values()],
                         {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            grads = torch.stack([p.grad for p in group["params"]])
            state = self.state[group["params"][0]]
            average = state.setdefault("average", torch.zeros_like(grads))
            average.lerp_(grads, 1 - group["momentum"])
            updates = orthogonal(grads.lerp(average, group["momentum"]))
            rows, columns = updates.shape[-2:]
            rate = group["lr"] * max(1, rows / columns) ** 0.5
            for matrix, update in zip(group["params"], updates):
                matrix.mul_(1 - group["lr"] * group["weight_decay"]).add_(update, alpha=-rate)
