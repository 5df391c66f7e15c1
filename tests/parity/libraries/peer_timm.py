"""Runs in timm's environment: a random ViT-B/16 of its own, one that was converted from ours, or a Google `.npz`.

peer_timm.py make FOLDER             -> FOLDER/theirs.safetensors, FOLDER/record.npz
peer_timm.py make-npz FOLDER STYLE   -> FOLDER/theirs.npz, read by timm; STYLE: vision_transformer or big_vision
peer_timm.py run FOLDER FILE         -> FOLDER/record.npz of FOLDER/FILE and the images of FOLDER/images.npz
"""

import sys
import types
from pathlib import Path

# timm imports torchvision, which registers shapes of compiled operators; beside a torch without CUDA its wheel cannot
# load these operators. A ViT uses none of them.
sys.modules["torchvision._meta_registrations"] = types.ModuleType("torchvision._meta_registrations")

import numpy as np  # noqa: E402
import timm  # noqa: E402
import torch  # noqa: E402
from safetensors.torch import save_file  # noqa: E402


def google_arrays(
    style: str,
    hidden: int = 768,
    heads: int = 12,
    layers: int = 12,
    patch: int = 16,
    rows: int = 197,
    scale: float = 0.04,
) -> dict[str, np.ndarray]:
    """Random values under the names and shapes of the published files, a class head beside them."""
    h, split = hidden, (heads, hidden // heads)
    old = style == "vision_transformer"
    attention, mlp, norm = ("_1", "_3", "_2") if old else ("_0", "_0", "_1")
    shapes = {
        "cls": (1, 1, h),
        "embedding/kernel": (patch, patch, 3, h),
        "embedding/bias": (h,),
        "head/kernel": (h, 1000),
        "head/bias": (1000,),
        "Transformer/encoder_norm/scale": (h,),
        "Transformer/encoder_norm/bias": (h,),
    }
    shapes |= {"Transformer/posembed_input/pos_embedding": (1, rows, h)} if old else {"pos_embedding": (1, rows - 1, h)}
    for i in range(layers):
        block = f"Transformer/encoderblock_{i}"
        for name in ("query", "key", "value"):
            shapes[f"{block}/MultiHeadDotProductAttention{attention}/{name}/kernel"] = (h, *split)
            shapes[f"{block}/MultiHeadDotProductAttention{attention}/{name}/bias"] = split
        shapes[f"{block}/MultiHeadDotProductAttention{attention}/out/kernel"] = (*split, h)
        shapes[f"{block}/MultiHeadDotProductAttention{attention}/out/bias"] = (h,)
        for number, (inputs, outputs) in enumerate(((h, 4 * h), (4 * h, h))):
            shapes[f"{block}/MlpBlock{mlp}/Dense_{number}/kernel"] = (inputs, outputs)
            shapes[f"{block}/MlpBlock{mlp}/Dense_{number}/bias"] = (outputs,)
        for part in ("_0", norm):
            shapes[f"{block}/LayerNorm{part}/scale"] = shapes[f"{block}/LayerNorm{part}/bias"] = (h,)
    rng, prefix = np.random.default_rng(12), "" if old else "params/"
    arrays = {name: np.float32(scale) * rng.standard_normal(shape, np.float32) for name, shape in shapes.items()}
    return {prefix + name: a + np.float32(name.endswith("scale")) for name, a in arrays.items()}


def main(mode: str, folder: Path, what: str = "") -> None:
    torch.manual_seed(11)
    images = torch.randn(2, 3, 224, 224)
    model = timm.create_model(
        "vit_base_patch16_224", no_embed_class=what == "big_vision", num_classes=0 if mode == "run" else 1000
    )
    if mode == "make":
        with torch.no_grad():
            for parameter in model.parameters():  # biases and norms too: at their start they hide mistakes
                parameter.add_(0.05 * torch.randn_like(parameter))
        save_file(model.state_dict(), folder / "theirs.safetensors")
    elif mode == "make-npz":
        np.savez(folder / "theirs.npz", **google_arrays(what))
        model.load_pretrained(str(folder / "theirs.npz"))
    else:
        images = torch.from_numpy(np.load(folder / "images.npz")["images"])
        timm.models.load_checkpoint(model, str(folder / what))
    model.eval()
    with torch.no_grad():
        states = model.forward_features(images)
    np.savez(folder / "record.npz", images=images.numpy(), states=states.numpy())


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), *sys.argv[3:])
