"""Vision transformers of other libraries beside ours: ViT-B/16 on two images of 224 x 224, all states compared."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import paddle
from case import Case, Result, compare, compare_bits
from environments import TIMM, TRANSFORMERS, environment, run_program

from unimo.models.oner import OnerConfig
from unimo.models.unimo2 import Unimo2Config
from unimo.models.vision import VisionTransformer
from unimo.port import vit
from unimo.port.files.tensor_files import open_tensors
from unimo.port.interchange import Checkpoint, Options
from unimo.port.weights import fill, values_of

HERE = Path(__file__).parent


@dataclass(frozen=True)
class Library:
    """One way to keep a ViT, and the program that runs the library."""

    format: str
    name: str
    program: str
    requirements: tuple[tuple[str, ...], ...]  # arguments of `environment`
    read: Callable[[Path, Options], Checkpoint]
    write: Callable[[Path, Checkpoint], list[str]]
    suffix: str  # of its file of weights; none for a folder
    epsilon: float  # of its layer norms

    def run(self, *arguments: str | Path) -> None:
        run_program(environment(*self.requirements), HERE / self.program, *arguments)


HF = Library(
    "vit-hf", "transformers 5.23.0", "peer_vit_hf.py", (TRANSFORMERS,), vit.read_hf, vit.write_hf, "", epsilon=1e-12
)
TIMM_FILE = Library(
    "vit-timm", "timm 1.0.31", "peer_timm.py", TIMM, vit.read_timm, vit.write_timm, ".safetensors", epsilon=1e-6
)
NPZ = Library("vit-npz", "timm 1.0.31", "peer_timm.py", TIMM, vit.read_npz, vit.write_npz, ".npz", epsilon=1e-6)


def our_states(model: VisionTransformer, images: np.ndarray) -> dict[str, np.ndarray]:
    model.eval()
    with paddle.no_grad():
        return {"states": model(paddle.to_tensor(images)).numpy()}


def their_states(folder: Path) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    with np.load(folder / "record.npz") as record:
        return record["images"], {"states": record["states"]}


def tower(library: Library) -> VisionTransformer:
    """Our ViT as the libraries have it: without UNIMO-2's padding, with the library's epsilon."""
    return VisionTransformer(768, 12, 12, patch_padding=0, epsilon=library.epsilon)


def theirs_to_ours(library: Library, system: str, make: tuple[str, ...], folder: Path) -> Result:
    """Weights that the library made or read, converted."""
    library.run(make[0], folder, *make[1:])
    checkpoint = library.read(folder / f"theirs{library.suffix}", Options(system=system))
    with paddle.LazyGuard():
        model = tower(library)
    fill(model, {n.removeprefix(vit.PREFIX[system]): t for n, t in checkpoint.tensors.items()})
    images, theirs = their_states(folder)
    return compare(our_states(model, images), theirs)


def ours_to_theirs(library: Library, system: str, folder: Path) -> Result:
    """Weights of ours, converted and read by the library."""
    paddle.seed(13)
    model = tower(library)
    for parameter in model.parameters():  # biases and norms too: at their start they hide mistakes
        parameter.set_value(parameter + 0.05 * paddle.randn(parameter.shape))
    config = {
        "unimo-2": Unimo2Config(vit_layer_norm_eps=library.epsilon),
        "oner": OnerConfig(layer_norm_eps=library.epsilon),
    }[system]
    tensors = {f"{vit.PREFIX[system]}{n}": t for n, t in values_of(model).items()}
    library.write(folder / f"written{library.suffix}", Checkpoint(system, config, (), tensors))
    images = np.random.default_rng(14).standard_normal([2, 3, 224, 224], np.float32)
    np.savez(folder / "images.npz", images=images)
    library.run("run", folder, f"written{library.suffix}")
    return compare(our_states(model, images), their_states(folder)[1])


def there_and_back(library: Library, make: tuple[str, ...], folder: Path) -> Result:
    """The library's file, converted and written again; the class head is not carried."""
    library.run(make[0], folder, *make[1:])
    theirs, again = folder / f"theirs{library.suffix}", folder / f"again{library.suffix}"
    library.write(again, library.read(theirs, Options(system="oner")))
    before = {n: t.read() for n, t in open_tensors(theirs).items() if not n.startswith("head")}
    return compare_bits({n: t.read() for n, t in open_tensors(again).items()}, before)


def _case(library: Library, way: str, run: Callable[[Path], Result], what: str, note: str = "") -> Case:
    ways = {"read": f"{library.format} -> ours", "write": f"ours -> {library.format}", "back": "there and back"}
    name, sizes = f"{library.format}-{way}-{what}", f"ViT-B/16, 224 pixels: 12 x 768{note}"
    return Case(name, library.format, ways[way], library.name, sizes, run)


def _cases(library: Library, make: tuple[str, ...]) -> list[Case]:
    unpadded = ", UNIMO-2 without padding"
    return [
        _case(library, "read", partial(theirs_to_ours, library, "unimo-2", make), "unimo2", unpadded),
        _case(library, "read", partial(theirs_to_ours, library, "oner", make), "oner", ", OneR"),
        _case(library, "write", partial(ours_to_theirs, library, "unimo-2"), "unimo2", unpadded),
        _case(library, "back", partial(there_and_back, library, make), "oner", ", OneR"),
    ]


RESIZED = ", table of 24 x 24 resized by both"
BIG_VISION = ", big_vision's names, no position of the class token"
CASES = (
    *_cases(HF, ("make",)),
    _case(HF, "read", partial(theirs_to_ours, HF, "unimo-2", ("make", "384")), "resized", RESIZED),
    *_cases(TIMM_FILE, ("make",)),
    *_cases(NPZ, ("make-npz", "vision_transformer")),
    _case(NPZ, "read", partial(theirs_to_ours, NPZ, "oner", ("make-npz", "big_vision")), "big_vision", BIG_VISION),
)
