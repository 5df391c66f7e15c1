"""Runs in an environment of its own (environments.FRCNN): Hugging Face's Faster R-CNN of the LXMERT example, with
random weights. Its three files modeling_frcnn.py, processing_image.py and utils.py are no part of this repository:

    https://github.com/huggingface/transformers-research-projects, folder lxmert,
    commit fccd0cdab03c1407bb7def05e1b48528fc817078

peer_frcnn.py PEER FOLDER -> FOLDER/theirs (config.yaml, pytorch_model.bin), FOLDER/record.npz: the published sizes
                             on one picture of 600 x 800; PEER is the folder of the three files
"""

import sys
from pathlib import Path

import numpy as np
import torch
import yaml

# What decides the published detector's function, and what its constructor asks for besides (Detectron's defaults).
CONFIG = {
    "max_detections": 36,
    "min_detections": 36,
    "size_divisibility": 0,
    "pad_value": 0.0,
    "input": {"format": "RGB", "min_size_test": 600, "max_size_test": 1000},
    "model": {
        "device": "cpu",
        "max_pool": True,
        "pixel_mean": [102.9801, 115.9465, 122.7717],
        "pixel_std": [1.0, 1.0, 1.0],
    },
    "backbone": {"freeze_at": 2},
    "resnets": {
        "depth": 101,
        "norm": "BN",
        "num_groups": 1,
        "width_per_group": 64,
        "stem_out_channels": 64,
        "res2_out_channels": 256,
        "out_features": ["res4"],
        "stride_in_1x1": True,
        "res5_dilation": 1,
    },
    "proposal_generator": {"hidden_channels": 512, "min_size": 0},
    "anchor_generator": {"sizes": [[64, 128, 256, 512]], "aspect_ratios": [[0.5, 1.0, 2.0]], "offset": 0.0},
    "rpn": {
        "in_features": ["res4"],
        "nms_thresh": 0.7,
        "pre_nms_topk_test": 6000,
        "post_nms_topk_test": 300,
        "pre_nms_topk_train": 12000,
        "post_nms_topk_train": 2000,
        "bbox_reg_weights": [1.0, 1.0, 1.0, 1.0],
        "batch_size_per_image": 256,
        "positive_fraction": 0.5,
        "smooth_l1_beta": 0.0,
        "loss_weight": 1.0,
        "boundary_thresh": -1,
        "iou_thresholds": [0.3, 0.7],
        "iou_labels": [0, -1, 1],
    },
    "roi_heads": {
        "in_features": ["res4"],
        "num_classes": 1600,
        "nms_thresh_test": [0.3],
        "score_thresh_test": 0.2,
        "positive_fraction": 0.25,
        "proposal_append_gt": True,
    },
    "roi_box_head": {
        "attr": True,
        "num_attrs": 400,
        "cls_agnostic_bbox_reg": False,
        "bbox_reg_weights": [10.0, 10.0, 5.0, 5.0],
        "pooler_resolution": 14,
        "pooler_sampling_ratio": 0,
        "res5halve": False,
        "smooth_l1_beta": 0.0,
    },
}

FINAL = ("boxes", "classes", "scores", "attributes", "attribute_scores", "features")  # what the source gives in the end


def picture(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """Coloured rectangles of all sizes on a ground, [height, width, 3] uint8: something for boxes to differ in."""
    pixels = np.full((height, width, 3), rng.integers(256, size=3), np.uint8)
    for _ in range(12):
        y, x = rng.integers(height), rng.integers(width)
        h, w = rng.integers(8, height), rng.integers(8, width)
        pixels[y : y + h, x : x + w] = rng.integers(256, size=3)
    return pixels


def prepare(config: dict, pictures: list[np.ndarray]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Pixels [B, 3, H, W], sizes as read and original sizes divided by these, both (height, width)."""
    from processing_image import Preprocess
    from utils import Config

    return Preprocess(Config(config))([torch.from_numpy(p.copy()) for p in pictures])


@torch.no_grad()
def random_model(config: dict, images: torch.Tensor, sizes: torch.Tensor, half: bool) -> torch.nn.Module:
    """The network in eval mode, heads scaled by what they give for `images`, so that proposals, classes and boxes vary.

    Args:
        half: weights that float16 can hold.
    """
    from modeling_frcnn import GeneralizedRCNN
    from utils import Config

    model = GeneralizedRCNN(Config(config))
    model.eval()
    for name, module in model.named_modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.weight.uniform_(0.5, 1.5).mul_(0.4 if ".conv3." in name else 1.0)
            module.bias.normal_(0, 0.2)
            module.running_mean.normal_(0, 0.2)
            module.running_var.uniform_(0.5, 1.5)
        elif isinstance(module, torch.nn.Conv2d) and "rpn_head" not in name:
            torch.nn.init.kaiming_normal_(module.weight)
    _calibrate(model, images, sizes)
    if half:
        for tensor in model.state_dict().values():
            if tensor.is_floating_point():
                tensor.copy_(tensor.half())
    return model


def _calibrate(model: torch.nn.Module, images: torch.Tensor, sizes: torch.Tensor) -> None:
    features = model.backbone(images)
    head, box = model.proposal_generator.rpn_head, model.roi_heads.box_predictor
    hidden = torch.nn.functional.relu(head.conv(features["res4"]))
    _spread(head.objectness_logits, hidden, 2.0)
    _spread(head.anchor_deltas, hidden, 0.3)
    proposals, _ = model.proposal_generator(images, sizes, features, None)
    pooled = model.roi_heads._shared_roi_transform(features, proposals).mean(dim=[2, 3])
    _spread(box.cls_score, pooled, 3.0)
    _spread(box.bbox_pred, pooled, 1.5)
    inner = torch.cat([pooled, box.cls_embedding(box.cls_score(pooled).argmax(-1))], -1)
    _spread(box.fc_attr, inner, 1.0)
    _spread(box.attr_score, torch.nn.functional.relu(box.fc_attr(inner)), 3.0)


def _spread(layer: torch.nn.Module, inputs: torch.Tensor, deviation: float) -> None:
    """Let each output channel of a layer have mean 0 and this deviation over `inputs`."""
    torch.nn.init.normal_(layer.weight)
    layer.bias.zero_()
    out = layer(inputs).transpose(0, 1).flatten(1)
    scale = deviation / out.std(1)
    layer.weight.mul_(scale.reshape([-1] + [1] * (layer.weight.dim() - 1)))
    layer.bias.copy_(-out.mean(1) * scale)


@torch.no_grad()
def run(model: torch.nn.Module, config: dict, pictures: list[np.ndarray]) -> dict[str, np.ndarray]:
    """Every stage of a batch of pictures, blue first, by the names of our `Detected`; and final_*, its choice."""
    images, sizes, scales = prepare(config, pictures)
    features = model.backbone(images)
    (objectness,), (deltas,) = model.proposal_generator.rpn_head([features["res4"]])
    proposals, scores = model.proposal_generator(images, sizes, features, None)
    class_logits, attribute_logits, box_deltas, pooled = model.roi_heads(features, proposals)
    b, n = len(pictures), config["roi_heads"]["num_classes"]
    record = {
        "pixels": images,
        "sizes": sizes,
        "feature_map": features["res4"],
        "objectness": objectness.permute(0, 2, 3, 1).reshape(b, -1),
        "anchor_deltas": deltas.reshape(b, -1, 4, *deltas.shape[2:]).permute(0, 3, 4, 1, 2).reshape(b, -1, 4),
        "counts": torch.tensor([len(p) for p in proposals]),
        "proposals": torch.cat(proposals),
        "proposal_scores": torch.cat(scores),
        "features": pooled,
        "class_logits": class_logits,
        "box_deltas": box_deltas.reshape(-1, n, 4),
        "attribute_logits": attribute_logits,
    }
    found = model.roi_outputs(class_logits, attribute_logits, box_deltas, proposals, pooled, sizes, scales)
    record |= {f"final_{name}": torch.cat(parts) for name, parts in zip(FINAL, found)}
    record["final_counts"] = torch.tensor([len(boxes) for boxes in found[0]])
    return {name: tensor.contiguous().numpy() for name, tensor in record.items()}


def save(folder: Path, config: dict, model: torch.nn.Module, half: bool) -> None:
    """The source's own layout: config.yaml and pytorch_model.bin."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    tensors = {k: v.half() if half and v.is_floating_point() else v for k, v in model.state_dict().items()}
    torch.save(tensors, folder / "pytorch_model.bin")


def main(peer: str, folder: Path) -> None:
    sys.path.insert(0, peer)
    torch.manual_seed(7)
    rng = np.random.default_rng(7)
    plain = picture(rng, 600, 800)
    noise = rng.integers(-9, 10, plain.shape)  # or cells of one colour score alike, and the source's order is by chance
    pictures = [np.clip(plain + noise, 0, 255).astype(np.uint8)]
    model = random_model(CONFIG, *prepare(CONFIG, pictures)[:2], half=False)
    save(folder / "theirs", CONFIG, model, half=False)
    np.savez(folder / "record.npz", picture=pictures[0], **run(model, CONFIG, pictures))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
