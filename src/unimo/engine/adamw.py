"""Paddle's AdamW with a faster update of large parameters on processors without AVX-512."""

import math
from typing import Any

import numpy as np
import paddle
from paddle import Tensor

from unimo.hardware import has_avx512

CHUNK = 2**18  # elements; operators on one chunk find it in the processor's cache
SMALL = 2**16  # elements; below this the calls would cost more than they save
KERNEL_IS_FAST = has_avx512()


class AdamW(paddle.optimizer.AdamW):
    """The same update and the same state as Paddle's, equal but for rounding; Fluid 1.8's epsilon where asked for.

    Paddle 3.3.1's CPU kernel is vectorised for AVX-512 only and takes one element at a time elsewhere. There, a large
    parameter is updated in chunks by Paddle's in-place operators, which are vectorised.

    Fluid divides by sqrt(v) + epsilon, later versions by sqrt(v / (1 - beta2^t)) + epsilon: the first is the second
    with epsilon / sqrt(1 - beta2^t).
    """

    _beta1: float  # Paddle would take tensors too
    _beta2: float
    _epsilon: float

    def __init__(self, *args: Any, fluid_epsilon: bool = False, **settings: Any):
        super().__init__(*args, **settings)
        self.given_epsilon, self.fluid_epsilon = self._epsilon, fluid_epsilon
        self.taken = 0  # updates
        self.power2 = np.float32(self._beta2)  # beta2^t of the next update, t from 1; float32 as the kernel keeps it

    def _apply_optimize(self, *args: Any, **settings: Any) -> Any:
        """One update: `step` comes here, and fleet's sharding, which does not call `step`. A scaler that found an
        overflow calls neither, and `power2` stays as Paddle's own does."""
        if self.fluid_epsilon:
            self._epsilon = self.given_epsilon / math.sqrt(1 - float(self.power2))
        done = super()._apply_optimize(*args, **settings)
        self.power2 *= np.float32(self._beta2)
        self.taken += 1
        return done

    def _append_optimize_op(self, block: Any, param_and_grad: tuple[Tensor, Tensor]) -> None:
        parameter, gradient = param_and_grad
        if KERNEL_IS_FAST or parameter.size < SMALL or not parameter.place.is_cpu_place():
            super()._append_optimize_op(block, param_and_grad)
            return
        moment1, moment2, power1, power2 = (
            self._get_accumulator_master(name, parameter)
            for name in (
                self._moment1_acc_str,
                self._moment2_acc_str,
                self._beta1_pow_acc_str,
                self._beta2_pow_acc_str,
            )
        )
        decays = self._apply_decay_param_fun is None or self._apply_decay_param_fun(parameter.name)
        learning_rate = float(self._create_param_lr(param_and_grad))
        kept = 1 - learning_rate * self._weight_decay if decays else 1.0
        correction = math.sqrt(1 - power2.item())
        rate, epsilon = learning_rate * correction / (1 - power1.item()), self._epsilon * correction
        views = [t.reshape([-1]) for t in (parameter, gradient, moment1, moment2)]
        for start in range(0, parameter.size, CHUNK):
            p, g, m, v = (view[start : start + CHUNK] for view in views)
            m.scale_(self._beta1).add_(g.scale(1 - self._beta1))
            v.scale_(self._beta2).add_(paddle.square(g).scale_(1 - self._beta2))
            p.scale_(kept).subtract_(m.scale(rate).divide_(paddle.sqrt(v).scale_(1.0, epsilon)))
        power1.scale_(self._beta1)
        power2.scale_(self._beta2)
