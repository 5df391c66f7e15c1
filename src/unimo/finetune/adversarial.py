"""VILLA-style adversarial training as in the release: texts and regions perturbed by gradient steps, one at a time.

Every iteration runs the pass as it is, with the text perturbed and with the regions perturbed, each with dropout of its
own. Source: the release's visual_entailment.py (spec: section 5.2 of its description), whose two oddities are kept: the
projection looks at the gradient's norm where VILLA's looks at the perturbation's, and the last iteration's update is
used by nobody, so it is not made.
"""

from collections.abc import Callable, Mapping

import paddle
import paddle.nn.functional as F
from paddle import Tensor
from pydantic import Field

from unimo.config import Config

Deltas = Mapping[str, Tensor]  # stream -> what is added to it, [B, S, D]
SMALLEST = 1e-8  # norm of a gradient that is divided by


class Adversary(Config):
    """How strong the perturbations are; the defaults are the release's for SNLI-VE."""

    steps: int = Field(4, gt=0)
    rate: float = Field(0.05, gt=0)  # length of a step
    max_norm: float = Field(0.4, ge=0)  # of a gradient, above which the perturbation shrinks; 0: never
    magnitude: float = Field(0.4, gt=0)  # of the start
    divergence: float = Field(1.0, ge=0)  # weight of the two symmetric KL divergences


def start(noise: Tensor, mask: Tensor, magnitude: float) -> Tensor:
    """The first perturbation of a stream: noise on its real positions, as long whatever their number is. [B, S, D]

    Args:
        noise: uniform in -1..1, [B, S, D].
        mask: 0/1 [B, S].
    """
    valid = mask.astype("float32").unsqueeze(2)
    count = valid.sum(1, keepdim=True).clip(min=1)  # a picture without regions has no position at all
    return noise * valid * magnitude / (count * noise.shape[2]).sqrt()


def adversarial_loss(
    logits_of: Callable[[Deltas], Tensor], losses_of: Callable[[Tensor], Tensor], starts: Deltas, settings: Adversary
) -> Tensor:
    """Mean over rows of the losses as they are and with each stream perturbed, and of the divergences between them.

    Args:
        logits_of: the pass with some streams perturbed, or none -> [rows, labels].
        losses_of: of logits -> [rows].
    """
    steps, deltas = settings.steps, dict(starts)
    total = paddle.zeros([])
    for iteration in range(steps):
        pure = logits_of({})
        total = total + losses_of(pure).mean() / steps
        for name, delta in deltas.items():
            delta.stop_gradient = False
            perturbed = logits_of({name: delta})
            loss = losses_of(perturbed).mean() / steps
            total = total + loss + settings.divergence * symmetric_divergence(pure, perturbed)
            if iteration + 1 < steps:
                (gradient,) = paddle.grad(loss, delta, retain_graph=True)
                deltas[name] = ascended(delta, gradient, settings)
    return total


def ascended(delta: Tensor, gradient: Tensor, settings: Adversary) -> Tensor:
    """A perturbation after a step along the gradient, each row's by its own norm. [B, S, D]"""
    norm = gradient.detach().square().sum([1, 2], keepdim=True).sqrt().clip(min=SMALLEST)
    moved = delta.detach() + settings.rate * gradient.detach() / norm
    if settings.max_norm:
        moved = moved * paddle.where(norm > settings.max_norm, settings.max_norm / norm, paddle.ones_like(norm))
    return moved


def symmetric_divergence(one: Tensor, other: Tensor) -> Tensor:
    """Mean over rows of KL(p|q) + KL(q|p), with gradient to both. [rows, labels], the same -> []"""
    log_p, log_q = F.log_softmax(one, -1), F.log_softmax(other, -1)
    return ((log_p.exp() - log_q.exp()) * (log_p - log_q)).sum(-1).mean()
