"""Runs in transformers' environment: a random ViT-B/16 of its own, or one that was converted from ours.

peer_vit_hf.py make FOLDER SIDE   -> FOLDER/theirs, FOLDER/record.npz; SIDE: pixels that the position table is made for
peer_vit_hf.py run FOLDER MODEL   -> FOLDER/record.npz of the folder FOLDER/MODEL and the images of FOLDER/images.npz
"""

import sys
from pathlib import Path

import numpy as np
import torch
from transformers import ViTConfig, ViTModel


def main(mode: str, folder: Path, what: str = "224") -> None:
    torch.manual_seed(11)
    if mode == "make":
        model = ViTModel(ViTConfig(image_size=int(what)), add_pooling_layer=False)
        with torch.no_grad():
            for parameter in model.parameters():  # biases and norms too: at their start they hide mistakes
                parameter.add_(0.05 * torch.randn_like(parameter))
        model.save_pretrained(folder / "theirs")
        images = torch.randn(2, 3, 224, 224)
    else:
        model, report = ViTModel.from_pretrained(
            folder / what, add_pooling_layer=False, output_loading_info=True, local_files_only=True
        )
        wrong = {name: found for name, found in report.items() if found}
        if wrong:
            sys.exit(f"transformers does not take the written folder: {wrong}")
        images = torch.from_numpy(np.load(folder / "images.npz")["images"])
    model.eval()
    with torch.no_grad():
        states = model(images, interpolate_pos_encoding=model.config.image_size != 224).last_hidden_state
    np.savez(folder / "record.npz", images=images.numpy(), states=states.numpy())


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), *sys.argv[3:])
