"""Adam's moments, beta powers and step of a training checkpoint of the release <-> those of our optimiser.

Names: Fluid calls them PARAMETER_moment1_0, PARAMETER_moment2_0, PARAMETER_beta1_pow_acc_0, PARAMETER_beta2_pow_acc_0;
ours are PARAMETER.moment1 and so on (engine.optimizer.STATE). Moments join and split like the weights they belong to.
"""

import re
from collections.abc import Mapping

import numpy as np

from unimo.errors import CheckpointError
from unimo.port.weights import Stored, Table, gather, of_array, problems, refuse, scatter, undamaged

MOMENTS, POWERS = ("moment1", "moment2"), ("beta1_pow_acc", "beta2_pow_acc")
COUNTER = "@LR_DECAY_COUNTER@"  # 0 in the first update, so one less than the updates done
_OPTIMIZER = re.compile(r".+_(moment[12]|beta[12]_pow_acc)_\d+|@LR_DECAY_COUNTER@|(scheduled_)?learning_rate(_\d+)?")


def is_optimizer_variable(name: str) -> bool:
    """Whether a variable of the release belongs to the optimiser or the schedule rather than to the model."""
    return _OPTIMIZER.fullmatch(name) is not None


def read_moments(
    source: object,
    table: Table,
    stored: Mapping[str, Stored | CheckpointError],
    shapes: Mapping[str, tuple[int, ...]],
) -> tuple[dict[str, Stored], int]:
    """The optimiser's state by our names, and the number of updates that it comes from.

    Raises:
        CheckpointError: listing every moment that is missing, damaged or misshapen, or parts of one of our parameters
            that were not updated equally often.
    """
    state: dict[str, Stored] = {}
    wrong: list[str] = []
    for kind in MOMENTS:
        named = {ours: tuple(f"{name}_{kind}_0" for name in names) for ours, names in table.items()}
        wrong += problems(named, stored, shapes)
        if not wrong:
            state |= {f"{ours}.{kind}": tensor for ours, tensor in gather(named, undamaged(stored), shapes).items()}
    for kind in POWERS:
        for ours, names in table.items():
            values = {_scalar(f"{name}_{kind}_0", stored, wrong) for name in names} - {None}
            if len(values) > 1:
                wrong.append(f"{kind} of {', '.join(names)}: {values}, expected one value")
            state[f"{ours}.{kind}"] = of_array(np.array([*values][:1], np.float32))
    counter = _scalar(COUNTER, stored, wrong)
    refuse(source, wrong)
    assert counter is not None  # or `wrong` would have said why
    return state, int(counter) + 1


def _scalar(name: str, stored: Mapping[str, Stored | CheckpointError], wrong: list[str]) -> float | None:
    """The value of a variable that holds one; None where it does not, and why in `wrong`."""
    variable = stored.get(name)
    if isinstance(variable, CheckpointError):
        wrong.append(str(variable))
    elif variable is None or variable.shape != (1,):
        wrong.append(f"{name}: {f'shape {list(variable.shape)}' if variable else 'missing'}, expected one value")
    elif not np.isfinite(value := variable.read().item()):
        wrong.append(f"{name}: {value}, expected a finite value")
    else:
        return value
    return None


def write_moments(table: Table, state: Mapping[str, Stored], step: int) -> dict[str, Stored]:
    """The inverse of `read_moments`."""
    found: dict[str, Stored] = {COUNTER: of_array(np.array([step - 1], np.int64))}
    for kind in MOMENTS:
        parts = scatter(table, {ours: state[f"{ours}.{kind}"] for ours in table})
        found |= {f"{name}_{kind}_0": part for name, part in parts.items()}
    for kind in POWERS:
        found |= {f"{name}_{kind}_0": state[f"{ours}.{kind}"] for ours, names in table.items() for name in names}
    return found
