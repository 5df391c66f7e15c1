"""Names and sizes of the Faster R-CNN of Hugging Face's LXMERT example beside ours.

Read off modeling_frcnn.py of huggingface/transformers-research-projects, folder lxmert, commit fccd0cdab03c.
"""

from typing import Any

from unimo.models.faster_rcnn import FasterRCNNConfig
from unimo.models.systems import skeleton
from unimo.port.weights import Table, shapes_of

STAGES = {2: "backbone.res2", 3: "backbone.res3", 4: "backbone.res4", 5: "roi_heads.res5"}
BLOCK = {"reduce": "conv1", "spatial": "conv2", "expand": "conv3", "shortcut": "shortcut"}
CONV_BN = {
    "conv.weight": "weight",
    "norm.weight": "norm.weight",
    "norm.bias": "norm.bias",
    "norm._mean": "norm.running_mean",
    "norm._variance": "norm.running_var",
}
AFFINE = {
    "rpn.hidden": "proposal_generator.rpn_head.conv",
    "rpn.objectness": "proposal_generator.rpn_head.objectness_logits",
    "rpn.deltas": "proposal_generator.rpn_head.anchor_deltas",
    "classify": "roi_heads.box_predictor.cls_score",
    "locate": "roi_heads.box_predictor.bbox_pred",
    "attribute_inner": "roi_heads.box_predictor.fc_attr",
    "attribute_outer": "roi_heads.box_predictor.attr_score",
}
TABLES = {
    "rpn.cell_anchors": "proposal_generator.anchor_generator.cell_anchors.0",
    "class_embedding.weight": "roi_heads.box_predictor.cls_embedding.weight",
}
COUNTERS = ".norm.num_batches_tracked"  # of batch norms; the only tensors of theirs that compute nothing

# ours -> section and key of config.yaml, in capitals as the source reads them, whatever the file's case
KEYS = {
    "depth": "RESNETS.DEPTH",
    "stem_size": "RESNETS.STEM_OUT_CHANNELS",
    "width": "RESNETS.WIDTH_PER_GROUP",
    "stride_in_1x1": "RESNETS.STRIDE_IN_1X1",
    "caffe_maxpool": "MODEL.MAX_POOL",
    "rpn_size": "PROPOSAL_GENERATOR.HIDDEN_CHANNELS",
    "anchor_sizes": "ANCHOR_GENERATOR.SIZES",
    "anchor_ratios": "ANCHOR_GENERATOR.ASPECT_RATIOS",
    "anchor_offset": "ANCHOR_GENERATOR.OFFSET",
    "rpn_box_weights": "RPN.BBOX_REG_WEIGHTS",
    "rpn_candidates": "RPN.PRE_NMS_TOPK_TEST",
    "rpn_overlap": "RPN.NMS_THRESH",
    "rpn_smallest": "PROPOSAL_GENERATOR.MIN_SIZE",
    "proposals": "RPN.POST_NMS_TOPK_TEST",
    "pooled_size": "ROI_BOX_HEAD.POOLER_RESOLUTION",
    "halve_stage5": "ROI_BOX_HEAD.RES5HALVE",
    "box_weights": "ROI_BOX_HEAD.BBOX_REG_WEIGHTS",
    "num_classes": "ROI_HEADS.NUM_CLASSES",
    "num_attributes": "ROI_BOX_HEAD.NUM_ATTRS",
    "lxmert_overlaps": "ROI_HEADS.NMS_THRESH_TEST",
    "pixel_mean": "MODEL.PIXEL_MEAN",
    "pixel_std": "MODEL.PIXEL_STD",
    "shorter_side": "INPUT.MIN_SIZE_TEST",
    "longest_side": "INPUT.MAX_SIZE_TEST",
    "blue_first": "INPUT.FORMAT",
}
# what the source can also be and this network cannot
FIXED: dict[str, Any] = {
    "RESNETS.NORM": "BN",
    "RESNETS.NUM_GROUPS": 1,
    "RESNETS.OUT_FEATURES": ["res4"],
    "RPN.IN_FEATURES": ["res4"],
    "ROI_HEADS.IN_FEATURES": ["res4"],
    "ROI_BOX_HEAD.CLS_AGNOSTIC_BBOX_REG": False,
    "ROI_BOX_HEAD.ATTR": True,
    "SIZE_DIVISIBILITY": 0,
}
# what the source's constructor reads and inference does not use; Detectron's values
UNUSED: dict[str, Any] = {
    "MODEL.DEVICE": "cpu",
    "BACKBONE.FREEZE_AT": 2,
    "RESNETS.RES5_DILATION": 1,
    "RPN.PRE_NMS_TOPK_TRAIN": 12000,
    "RPN.POST_NMS_TOPK_TRAIN": 2000,
    "RPN.BATCH_SIZE_PER_IMAGE": 256,
    "RPN.POSITIVE_FRACTION": 0.5,
    "RPN.SMOOTH_L1_BETA": 0.0,
    "RPN.LOSS_WEIGHT": 1.0,
    "RPN.BOUNDARY_THRESH": -1,
    "RPN.IOU_THRESHOLDS": [0.3, 0.7],
    "RPN.IOU_LABELS": [0, -1, 1],
    "ROI_HEADS.POSITIVE_FRACTION": 0.25,
    "ROI_HEADS.PROPOSAL_APPEND_GT": True,
    "ROI_HEADS.SCORE_THRESH_TEST": 0.2,
    "ROI_BOX_HEAD.POOLER_SAMPLING_RATIO": 0,
    "ROI_BOX_HEAD.SMOOTH_L1_BETA": 0.0,
    "MIN_DETECTIONS": 10,
    "MAX_DETECTIONS": 100,
    "PAD_VALUE": 0.0,
}


def name_table(config: FasterRCNNConfig) -> Table:
    """Every parameter of ours -> the one tensor of theirs."""
    layers = {"stem": "backbone.stem.conv1"}
    for stage, theirs in STAGES.items():
        for block in range(36):  # the most in any depth
            layers |= {f"res{stage}.{block}.{our}": f"{theirs}.{block}.{their}" for our, their in BLOCK.items()}
    names = {f"{our}.{o}": f"{their}.{t}" for our, their in layers.items() for o, t in CONV_BN.items()}
    names |= {f"{our}.{kind}": f"{their}.{kind}" for our, their in AFFINE.items() for kind in ("weight", "bias")}
    names |= TABLES
    return {name: (names[name],) for name in shapes_of(skeleton("bottom-up-attention", config, ()))}
