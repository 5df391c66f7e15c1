"""The releases' recorded passes, and every format of Paddle's own at base size beside Paddle itself."""

import re
from collections.abc import Callable
from functools import partial
from importlib.metadata import version
from pathlib import Path

import numpy as np
import paddle
from case import Case, Result, compare_bits

from unimo.config import ROOT, load
from unimo.models.systems import SYSTEMS, skeleton
from unimo.port import ours, release
from unimo.port.files.variables import list_variables
from unimo.port.interchange import Checkpoint, Options
from unimo.port.parity.verify_unimo import SYSTEMS as VERIFY
from unimo.port.weights import Stored, of_array, shapes_of

FIXTURES = ROOT / "tests" / "fixtures" / "parity"
HEADS = {"unimo": ("pool", "lm", "match"), "unimo-2": ("pool", "match", "cmcl", "lm")}
SIZES = {"unimo": "unimo_base", "unimo-2": "unimo2_base"}
PADDLE = f"paddle {version('paddlepaddle')}"
Values = dict[str, np.ndarray]


def recorded(system: str, checkpoint: str, io: str, folder: Path) -> Result:
    """A pass of the original graph: every output on valid positions; the codes that UNIMO-2 chose are the argmax."""
    place = FIXTURES / system.replace("-", "")
    _, comparisons = VERIFY[system](place / checkpoint, place / "config.json", place / io)
    with np.load(place / io) as golden:
        shares = {c.name: c.difference / np.abs(golden[c.name]).max() for c in comparisons if c.name != "out_idx"}
    codes = [c.difference for c in comparisons if c.name == "out_idx"]
    return Result(float(max(shares.values())), not any(codes))


def random_checkpoint(system: str, moments: bool = False) -> Checkpoint:
    rng = np.random.default_rng(7)
    config = load(SYSTEMS[system].config, ROOT / "model_configs" / "models" / f"{SIZES[system]}.yaml")
    shapes = shapes_of(skeleton(system, config, HEADS[system]))

    def draw() -> dict[str, Stored]:
        return {name: of_array(rng.standard_normal(shape, dtype=np.float32)) for name, shape in shapes.items()}

    tensors, state = draw(), None
    if moments:
        state = {f"{name}.{kind}": t for kind in ("moment1", "moment2") for name, t in draw().items()}
        powers = {"beta1_pow_acc": 0.9**9, "beta2_pow_acc": 0.98**9}
        state |= {f"{n}.{kind}": of_array(np.array([p], np.float32)) for n in shapes for kind, p in powers.items()}
    return Checkpoint(system, config, HEADS[system], tensors, optimizer=state, step=8 if moments else 0)


def values(tensors: dict[str, Stored]) -> Values:
    return {name: tensor.read() for name, tensor in tensors.items()}


def there_and_back(system: str, form: str, folder: Path) -> Result:
    """A random model, and for the release its moments, written and read again."""
    before = random_checkpoint(system, moments=form == "release")
    path = folder / {"safetensors": "m.safetensors", "pdparams": "m.pdparams"}.get(form, "m")
    write, read = {
        "release": (release.write_release, release.read_release),
        "release-combined": (release.write_release_combined, release.read_combined),
        "unimo": (ours.write_folder, ours.read_folder),
        "safetensors": (ours.write_safetensors_file, ours.read_file),
        "pdparams": (ours.write_pdparams_file, ours.read_file),
    }[form]
    write(path, before)
    (folder / "sizes.json").write_text(before.config.model_dump_json())
    options = {"release-combined": Options(config=folder / "sizes.json"), "release": Options(optimizer=True)}
    after = read(path, options.get(form, Options()))
    return compare_bits(
        values({**after.tensors, **(after.optimizer or {})}), values({**before.tensors, **(before.optimizer or {})})
    )


def read_by_paddle(system: str, form: str, folder: Path) -> Result:
    """What we write, by `paddle.load`."""
    before = random_checkpoint(system)
    if form == "pdparams":
        ours.write_pdparams(folder / "m.pdparams", before.tensors)
        loaded = paddle.load(str(folder / "m.pdparams"))
        return compare_bits({n: t.numpy() for n, t in loaded.items()}, values(before.tensors))
    release.write_release(folder / "m", before)
    loaded = {name: paddle.load(str(path)).numpy() for name, path in list_variables(folder / "m")[0].items()}
    table = release.NAMES[system].name_table(before.config, release.NAMES[system].parts_of(before.heads))
    joined = {name: np.concatenate([loaded[n] for n in theirs], -1) for name, theirs in table.items()}
    return compare_bits(joined, values(before.tensors))


def written_by_paddle(system: str, form: str, folder: Path) -> Result:
    """What Paddle writes of a model, by us."""
    model = skeleton(system, random_checkpoint(system).config, HEADS[system])
    for parameter in model.parameters():
        parameter.initialize()
    before = {name: parameter.numpy() for name, parameter in model.named_parameters()}
    (folder / "sizes.json").write_text(model.config.model_dump_json())
    if form == "pdparams":
        paddle.save(model.state_dict(), str(folder / "m.pdparams"))
        ours.write_safetensors_file(folder / "config", Checkpoint(system, model.config, model.heads, {}))
        after = ours.read_file(folder / "m.pdparams", Options(config=folder / "config.config.json"))
    else:
        (folder / "m").mkdir()
        table = release.NAMES[system].name_table(model.config, release.NAMES[system].parts_of(model.heads))
        for name, theirs in table.items():
            for their, part in zip(theirs, np.split(before[name], len(theirs), -1)):
                paddle.save(paddle.to_tensor(part), str(folder / "m" / their), use_binary_format=True)
        after = release.read_release(folder / "m", Options(config=folder / "sizes.json"))
    return compare_bits(values(dict(after.tensors)), before)


def _case(form: str, way: str, run: Callable[[Path], Result], what: str, library: str = PADDLE) -> Case:
    ways = {"read": f"{form} -> ours", "write": f"ours -> {form}", "back": "there and back"}
    return Case(f"{form}-{way}-{re.sub('[^a-z0-9-]+', '_', what.lower())}", form, ways[way], library, what, run)


def _recorded(system: str, checkpoint: str, io: str, what: str) -> Case:
    library = f"{system}'s own graph, recorded"
    return _case("release", "read", partial(recorded, system, checkpoint, io), what, library)


CASES = (
    _recorded("unimo", "checkpoint", "io.npz", "UNIMO 3 x 32, 11 outputs"),
    *(
        _recorded("unimo-2", f"checkpoint_{mode}", f"io_{mode}.npz", f"UNIMO-2 2+2+2 x 32, {name}")
        for mode, name in (("vl", "pair"), ("txt", "text"), ("img", "image"), ("cap", "captioning"))
    ),
    *(
        _case(form, way, partial(run, system, form), f"{system} base")
        for system in SIZES
        for form in ("release", "pdparams")
        for way, run in (("read", written_by_paddle), ("write", read_by_paddle))
    ),
    *(
        _case(form, "back", partial(there_and_back, system, form), f"{system} base{note}", "")
        for system in SIZES
        for form, note in (
            ("release", " with moments"),
            ("release-combined", ""),
            ("unimo", ""),
            ("safetensors", ""),
            ("pdparams", ""),
        )
    ),
)
