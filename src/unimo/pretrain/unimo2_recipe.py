"""What a pre-training run of UNIMO-2 is made of. The paper's settings are not known, so every default here is ours."""

from typing import Any, Literal

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveInt, model_validator

from unimo.config import Config, Paper
from unimo.engine.settings import EngineConfig
from unimo.models.systems import check_length
from unimo.models.unimo2 import Unimo2Config
from unimo.pretrain.matching import Normalised
from unimo.readers.images import PixelSettings, Stores
from unimo.readers.pixels import Augmentation

StreamName = Literal["text", "image", "pair"]
Objective = Literal["mlm", "match", "contrast", "dictionary", "code", "view"]
FEEDS: dict[StreamName, set[Objective]] = {  # what a stream trains
    "text": {"mlm", "dictionary"},
    "image": {"view", "dictionary", "code"},
    "pair": {"mlm", "match", "contrast", "dictionary", "code"},
}
GROUNDED: set[Objective] = {"dictionary", "code"}  # of models with a dictionary


class DataFiles(Config):
    """Where the streams come from; docs/data.md gives the formats."""

    pairs: str | None = None
    images: str | None = None  # pictures of the image stream
    texts: str | None = None  # texts.jsonl, or a folder of token shards (docs/corpora.md)


class Unimo2Recipe(Config):
    """One pre-training run of UNIMO-2."""

    system: Literal["unimo-2"]
    model: Unimo2Config
    tokenizer: str  # folder with the vocabulary files
    # What to start from: one whole model, or encoders of other libraries, as a ViT and a RoBERTa (docs/porting.md)
    initialise_from: Stores = ()
    data: DataFiles
    pixels: PixelSettings = PixelSettings()
    streams: dict[StreamName, NonNegativeFloat]  # drawing ratios
    batch_positions: dict[StreamName, PositiveInt]  # padded positions of a micro-batch, all ranks
    max_tokens: int = Field(512, gt=2)
    batch_multiple: PositiveInt = 8  # batches hold a multiple of this many samples where the budget allows it
    mask_ratio: float = Field(0.15, gt=0, lt=1)  # of the words of texts and captions (release)
    mismatched: float = Field(0.5, ge=0, le=1)  # share of captions that are also matched with another's picture
    normalised: Normalised = "both"  # in the contrast; the release: image within a batch
    views: Augmentation = Augmentation(crop=0.5, flip=0.5, jitter=0.4)  # of a picture without text
    view_temperature: float = Field(0.1, gt=0)
    code_ratio: float = Field(0.15, gt=0, lt=1)  # of the codes, for the objective code (release)
    revive_every: NonNegativeInt = 0  # updates after which codes that nobody chose since start anew; 0: never
    weights: dict[Objective, NonNegativeFloat]  # of each objective's mean loss
    engine: EngineConfig
    paper: Paper | None = None

    @model_validator(mode="after")
    def _fits(self) -> "Unimo2Recipe":
        check_length(self.max_tokens, self.model)
        if self.weights.get("match") and not self.mismatched:
            raise ValueError("matching needs pairs that do not fit: give mismatched, or weights.match=0")
        if self.objectives.get("code") and self.model.grounding_method == "normal":
            raise ValueError(
                "code masks a set of topk_value codes, grounding_method normal has one a token: weights.code=0"
            )
        if self.objectives.get("view") and self.views.idle:
            raise ValueError("views that do not differ teach nothing: give views.crop, views.flip or views.jitter")
        return self

    @property
    def objectives(self) -> dict[str, float]:
        """Weight of each objective that has one; without a dictionary, of those that need none."""
        lacking = GROUNDED if self.model.grounding_method == "none" else set()
        return {name: weight for name, weight in self.weights.items() if weight and name not in lacking}

    @property
    def reading(self) -> dict[str, Any]:
        """How an evaluation of retrieval on the way reads pictures and captions."""
        pixels = {key: getattr(self.pixels, key) for key in ("shards", "preparation", "side")}
        return {**pixels, "max_tokens": self.max_tokens}
