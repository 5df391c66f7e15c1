"""Where a number of the paper depends on how the release's framework behaved: the choices, in one place."""

from typing import Literal

from unimo.config import Config


class Compat(Config):
    """The defaults are what Paddle 3 does; a recipe of a paper's row names what its release did."""

    # Fluid 1.8's Adam (UNIMO) adds epsilon to sqrt(v) where later versions add it to sqrt(v / (1 - beta2^t)): early
    # updates with gradients near epsilon are smaller. Paddle 2.0 changed it, so UNIMO-2 was trained without.
    adam_epsilon: Literal["paddle", "fluid-1.8"] = "paddle"
