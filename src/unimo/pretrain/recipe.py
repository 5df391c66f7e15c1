"""What a pre-training run is made of: data, streams, masking, contrast, weights, engine. The YAML files mirror this."""

from typing import Any, Literal

from pydantic import Field, NonNegativeFloat, PositiveInt, model_validator

from unimo.config import Config, Paper
from unimo.engine.settings import EngineConfig
from unimo.models.systems import check_length
from unimo.models.unimo import UnimoConfig
from unimo.readers.images import Stores

Objective = Literal["mlm", "seq2seq", "region_feature", "region_class", "cmcl"]


class DataFiles(Config):
    """Where the streams come from; docs/data.md gives the formats."""

    pairs: str | None = None
    rewrites: str | None = None  # X+, X-, X^I and X^T of the pairs' captions
    images: str | None = None  # pictures of the image stream
    texts: str | None = None  # texts.jsonl, or a folder of token shards (docs/corpora.md)
    regions: Stores = ()  # feature store, or several, with every image of pairs and images


class Masking(Config):
    """Ratios of the release's json; the paper confirms 15 %."""

    text_ratio: float = Field(0.15, gt=0, lt=1)
    region_ratio: float = Field(0.15, gt=0, lt=1)
    overlap_ratio: float = Field(0.4, gt=0, le=1)  # .4 base, .3 large
    seq2seq_share: float = Field(0.5, ge=0, le=1)  # ours after UNIMO-2's left-over code: half MLM, half seq2seq


class Contrast(Config):
    """CMCL candidates of one step and their temperature. Not stated by the papers, so all of these are ours."""

    temperature: float = Field(0.1, gt=0)
    paraphrases: int = Field(1, ge=0)  # X+ besides the pair itself
    rewritten: int = Field(1, ge=0)  # X-: object, attribute or relation swapped
    tfidf: int = Field(1, ge=0)  # X-: similar captions of other images
    companions: int = Field(3, ge=0)  # X-: other pairs, each of whose pictures meets each of whose captions
    images: int = Field(1, ge=0)  # X^I
    texts: int = Field(1, ge=0)  # X^T


class PretrainRecipe(Config):
    """One pre-training run of UNIMO."""

    system: Literal["unimo"] = "unimo"
    model: UnimoConfig
    tokenizer: str  # folder with the vocabulary files
    # what to start from: a name of the zoo, a run, or a checkpoint of any format of docs/porting.md
    initialise_from: str | None = None
    data: DataFiles
    streams: dict[Literal["text", "image", "pair"], NonNegativeFloat]  # drawing ratios; the papers do not state theirs
    batch_positions: dict[Literal["text", "image", "pair"], PositiveInt]  # padded positions of a micro-batch, all ranks
    max_tokens: int = Field(512, gt=2)
    max_regions: int = Field(100, gt=0)
    batch_multiple: PositiveInt = 8  # batches hold a multiple of this many samples where the budget allows it
    masking: Masking = Masking()
    contrast: Contrast = Contrast()
    weights: dict[Objective, NonNegativeFloat]  # of each objective's mean loss; the papers do not state theirs
    engine: EngineConfig
    paper: Paper | None = None

    @property
    def reading(self) -> dict[str, Any]:
        """How an evaluation of retrieval on the way reads pictures and captions."""
        return {"regions": self.data.regions, "max_tokens": self.max_tokens, "max_regions": self.max_regions}

    @model_validator(mode="after")
    def _lengths(self) -> "PretrainRecipe":
        check_length(self.max_tokens, self.model)
        return self
