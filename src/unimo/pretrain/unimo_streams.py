"""The three pre-training streams: texts, images, pairs. Each turns sample numbers into one masked, padded batch.

Every random choice is a function of (seed, epoch, sample) or of (seed, epoch, batch), so batches depend neither on
ranks and workers nor on where a run was resumed. Arrays are numpy; `unimo.py` opens these streams and computes on what
they give.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

import numpy as np

from unimo.pretrain.recipe import Contrast, Masking
from unimo.readers.annotations import Pair, Rewrite, Sentence, read_texts
from unimo.readers.batching import Batch, fingerprint
from unimo.readers.captions import Captions, caption_ids, collate_text
from unimo.readers.images import RegionImages, Rngs
from unimo.readers.masking import mask_regions, mask_spans, seq2seq_fragments
from unimo.readers.pairings import group_by_cost
from unimo.readers.token_shards import TokenShards, Windows
from unimo.readers.tokenizer import Tokenizer

LENGTH_SLACK = 2  # tokens by which a companion's caption may be longer or shorter (ours)
Arrays = dict[str, np.ndarray]
Content = TypeVar("Content", list[int], str)


def hide_words(sequences: Sequence[list[int]], tokenizer: Tokenizer, masking: Masking, rngs: Rngs) -> Arrays:
    """Masked spans of [CLS] ... [SEP] sequences: the text stream, `words` [M] (flat positions) and `labels` [M]."""
    masked = [mask_spans(ids, tokenizer, rng, masking.text_ratio) for ids, rng in zip(sequences, rngs)]
    text = collate_text([m.ids for m in masked], tokenizer.pad_id)
    return text | word_targets([m.positions for m in masked], [m.labels for m in masked], text["ids"].shape[1])


def cut_fragments(sequences: Sequence[list[int]], tokenizer: Tokenizer, rngs: Rngs) -> Arrays:
    """Source and target of each sequence: as `hide_words`, with `source_lengths` and `lengths` [B] for the mask."""
    cut = [seq2seq_fragments(ids, tokenizer, rng) for ids, rng in zip(sequences, rngs)]
    text = collate_text([c.ids for c in cut], tokenizer.pad_id, [c.positions for c in cut])
    lengths = {
        "source_lengths": np.array([c.source_length for c in cut]),
        "lengths": np.array([len(c.ids) for c in cut]),
    }
    return text | lengths | word_targets([c.predict_at for c in cut], [c.labels for c in cut], text["ids"].shape[1])


def word_targets(positions: Sequence[np.ndarray], labels: Sequence[np.ndarray], width: int) -> Arrays:
    """`words`, flat places in rows of `width` positions, and `labels`, what is to be predicted there. [M] each"""
    flat = [row * width + p for row, p in enumerate(positions)]
    return {"words": np.concatenate(flat), "labels": np.concatenate(labels)}


def hide_regions(images: RegionImages, image_ids: Sequence[str], masking: Masking, rngs: Rngs) -> Arrays:
    """Region stream with masked regions, and what was there.

    Adds `hidden` [B, N] 0/1 and `class_probs` [R, C] float16 of the hidden regions in row order (where the store has
    them). The features stay whole: the loss needs them, and the model's input is made from both in one step.
    """
    regions = images.collate(image_ids)
    hidden, class_probs = np.zeros_like(regions["mask"]), []
    for row, (record, rng) in enumerate(zip(map(images.read, image_ids), rngs)):
        n = min(len(record.boxes), images.max_regions)
        chosen = mask_regions(record.boxes[:n], rng, masking.region_ratio, masking.overlap_ratio)
        hidden[row, 1 : n + 1] = chosen
        if record.class_probs is not None:
            class_probs.append(record.class_probs[:n][chosen])
    probs = {"class_probs": np.concatenate(class_probs)} if class_probs else {}
    return regions | {"hidden": hidden} | probs


class TextStream:
    """Sentences and passages for word prediction."""

    def __init__(self, texts: Sequence[Sentence], tokenizer: Tokenizer, masking: Masking, max_tokens: int):
        self.name, self.tokenizer, self.masking = "text", tokenizer, masking
        self.ids = [t.id for t in texts]
        self.sequences = [caption_ids(tokenizer, t.text, max_tokens) for t in texts]
        self.lengths = np.array([[len(s)] for s in self.sequences])
        self.fingerprint = fingerprint(self.ids, self.sequences, tokenizer.fingerprint, masking)

    def batch(self, samples: np.ndarray, rngs: Rngs, batch_rng: np.random.Generator) -> Batch:
        """The texts with words hidden, or cut into fragments."""
        sequences = [self.sequences[i] for i in samples]
        text = predict_words(sequences, self.tokenizer, self.masking, rngs, batch_rng)
        return Batch("text", [self.ids[i] for i in samples], {"text": text})


class TokenStream:
    """Windows of packed token shards for word prediction; ids stay in the files until a batch needs them."""

    def __init__(self, shards: TokenShards, tokenizer: Tokenizer, masking: Masking, max_tokens: int):
        self.name, self.tokenizer, self.masking = "text", tokenizer, masking
        self.windows = Windows(shards, max_tokens - 2)  # [CLS] and [SEP] are added
        self.lengths = (self.windows.lengths + 2)[:, None]
        self.fingerprint = fingerprint(shards.fingerprint, tokenizer.fingerprint, masking, max_tokens)

    def batch(self, samples: np.ndarray, rngs: Rngs, batch_rng: np.random.Generator) -> Batch:
        """The windows between [CLS] and [SEP], with words hidden, or cut into fragments."""
        cls, sep = self.tokenizer.cls_id, self.tokenizer.sep_id
        sequences = [[cls, *self.windows.read(i).tolist(), sep] for i in samples]
        text = predict_words(sequences, self.tokenizer, self.masking, rngs, batch_rng)
        return Batch("text", [self.windows.name(i) for i in samples], {"text": text})


def open_texts(path: Path, tokenizer: Tokenizer, masking: Masking, max_tokens: int) -> TextStream | TokenStream:
    """The text stream of a texts.jsonl, or of a folder of token shards."""
    if path.is_dir():
        return TokenStream(TokenShards(path, tokenizer), tokenizer, masking, max_tokens)
    return TextStream(read_texts(path), tokenizer, masking, max_tokens)


def predict_words(
    sequences: Sequence[list[int]], tokenizer: Tokenizer, masking: Masking, rngs: Rngs, batch_rng: np.random.Generator
) -> Arrays:
    """Fragments or masked words of one batch, by `batch_rng`, the same on all ranks."""
    if batch_rng.random() < masking.seq2seq_share:
        return cut_fragments(sequences, tokenizer, rngs)
    return hide_words(sequences, tokenizer, masking, rngs)


class ImageStream:
    """Images alone, for the masked-region objectives."""

    def __init__(self, ids: Sequence[str], images: RegionImages, masking: Masking):
        self.name, self.ids, self.images, self.masking = "image", list(ids), images, masking
        self.lengths = images.positions(self.ids)[:, None]
        self.fingerprint = fingerprint(self.ids, images.fingerprint, masking, images.max_regions)

    def batch(self, samples: np.ndarray, rngs: Rngs, batch_rng: np.random.Generator) -> Batch:
        """The regions of the images, some of them hidden."""
        ids = [self.ids[i] for i in samples]
        return Batch("image", ids, {"regions": hide_regions(self.images, ids, self.masking, rngs)})


class PairStream:
    """One sample is one caption with its image: a masked pass over the pair, and the candidates of CMCL unmasked.

    Whether the paper masks CMCL's inputs is not known; here they are whole, so that no objective sees another's mask.
    Without `contrast` there is the masked pass alone.

    Args:
        budget: the most positions of one joint call of the contrast.
    """

    def __init__(
        self,
        pairs: Sequence[Pair],
        rewrites: Mapping[str, Rewrite],
        images: RegionImages,
        tokenizer: Tokenizer,
        masking: Masking,
        contrast: Contrast | None,
        max_tokens: int,
        budget: int | None = None,
    ):
        self.name, self.images, self.masking, self.contrast = "pair", images, masking, contrast
        self.tokenizer, self.max_tokens, self.budget = tokenizer, max_tokens, budget
        captions = Captions.of(pairs, tokenizer, max_tokens)
        self.ids, self.image_ids = captions.ids, captions.image_ids
        self.texts, self.sequences = captions.texts, captions.sequences
        self.rewrites = rewrites
        self._by_length = np.argsort([len(s) for s in self.sequences], kind="stable")
        self._sorted_lengths = np.array([len(self.sequences[i]) for i in self._by_length])
        lengths = np.stack([images.positions(self.image_ids), [len(s) for s in self.sequences]], axis=1)
        passes = 1  # the masked one, and one a joint candidate
        if contrast:
            passes += (1 + contrast.companions) ** 2 + contrast.paraphrases + contrast.rewritten + contrast.tfidf
        self.lengths = lengths * passes
        self.fingerprint = fingerprint(
            list(zip(self.ids, self.image_ids, self.texts)),
            map(rewrites.get, self.ids),
            images.fingerprint,
            tokenizer.fingerprint,
            masking,
            contrast,
            max_tokens,
            images.max_regions,
        )

    def batch(self, samples: np.ndarray, rngs: Rngs, batch_rng: np.random.Generator) -> Batch:
        """Masked text and regions of the pairs, and with `contrast` the candidates that the match head scores."""
        sequences = [self.sequences[i] for i in samples]
        text = predict_words(sequences, self.tokenizer, self.masking, rngs, batch_rng)
        regions = hide_regions(self.images, [self.image_ids[i] for i in samples], self.masking, rngs)
        inputs = {"text": text, "regions": regions}
        if self.contrast:
            inputs |= self._candidates(samples, rngs, self.contrast)
        return Batch("pair", [self.ids[i] for i in samples], inputs)

    def _candidates(self, samples: np.ndarray, rngs: Rngs, contrast: Contrast) -> dict[str, Arrays]:
        """What is contrasted: captions scored jointly with a picture, retrieved texts and images encoded alone.

        Each sample brings companions, other pairs of its kind, and all pictures of such a group are scored with all
        its captions: what a caption is worth by itself then cancels out, so that the loss can only fall by looking.
        The group is a function of (seed, epoch, sample), unlike the other pairs of a batch, which depend on the ranks.

        `pairings` names rows of `captions`, each there once, and of `contrast_images`, in the order of its `calls`,
        because one long negative or rich picture would pad all the others. `contrast` tells how all scores, in the
        order of the inputs, make up the row of each pair of each group.
        """
        image_ids: list[str] = []
        joint: list[Candidate[list[int]]] = []
        texts: list[Candidate[list[int]]] = []
        images: list[Candidate[str]] = []
        for number, (sample, rng) in enumerate(zip(samples, rngs)):
            group, first = [sample, *self._companions(sample, rng, contrast.companions)], len(image_ids)
            image_ids += [self.image_ids[member] for member in group]
            for a in range(len(group)):
                for b, member in enumerate(group):  # picture a with caption b is a candidate of both their pairs
                    joint.append(Candidate(self.sequences[member], first + a, {first + a, first + b}, a == b))
            if rewrite := self.rewrites.get(self.ids[sample]):
                rewritten = self._rewritten(rewrite, rng, contrast)
                joint += [Candidate(ids, first, {first}, positive) for ids, positive in rewritten]
                for text in pick(rewrite.similar_texts, contrast.texts, rng):
                    texts.append(Candidate(self._encode(text), number, {first}, True))
                for image_id in pick(rewrite.similar_images, contrast.images, rng):
                    images.append(Candidate(image_id, number, {first}, True))
        slots = self.images.positions(image_ids)[[c.partner for c in joint]]
        order, calls = group_by_cost(slots, np.array([len(c.content) for c in joint]), self.budget)
        joint = [joint[i] for i in order]
        distinct: dict[tuple[int, ...], int] = {}
        rows = [distinct.setdefault(tuple(c.content), len(distinct)) for c in joint]
        partners = np.array([c.partner for c in joint])
        inputs: dict[str, Arrays] = {
            "captions": collate_text([list(ids) for ids in distinct], self.tokenizer.pad_id),
            "contrast_images": self.images.collate(image_ids),
            "pairings": {"captions": np.array(rows), "images": partners, "calls": calls},
        }
        if texts:
            inputs["retrieved_texts"] = collate_text([c.content for c in texts], self.tokenizer.pad_id)
            inputs["retrieved_texts"]["partner"] = np.array([c.partner for c in texts])
        if images:
            with_owner = {"partner": np.array([c.partner for c in images])}
            inputs["retrieved_images"] = self.images.collate([c.content for c in images]) | with_owner
            inputs["own_captions"] = collate_text([self.sequences[i] for i in samples], self.tokenizer.pad_id)
        return inputs | {"contrast": candidate_rows([*joint, *texts, *images], len(image_ids))}

    def _rewritten(
        self, rewrite: Rewrite, rng: np.random.Generator, contrast: Contrast
    ) -> list[tuple[list[int], bool]]:
        """Paraphrases (X+) and hard negatives (X-) of a caption that the files have, as many as the recipe asks."""
        tfidf = [n.text for n in rewrite.negatives if n.kind == "tfidf"]
        swapped = [n.text for n in rewrite.negatives if n.kind != "tfidf"]
        found = [(text, True) for text in pick([p.text for p in rewrite.positives], contrast.paraphrases, rng)]
        found += [(text, False) for text in pick(swapped, contrast.rewritten, rng) + pick(tfidf, contrast.tfidf, rng)]
        return [(self._encode(text), positive) for text, positive in found]

    def _companions(self, sample: int, rng: np.random.Generator, count: int) -> list[int]:
        """Captions of other images and other wording, about as long: length gives nothing away, and pads stay few."""
        own = len(self.sequences[sample])
        low, high = np.searchsorted(self._sorted_lengths, [own - LENGTH_SLACK, own + LENGTH_SLACK + 1])
        if high - low <= 2 * count:  # a length of its own: take the neighbours in length
            low, high = max(0, low - 2 * count), high + 2 * count
        near = self._by_length[low:high]
        chosen = [sample]
        for i in near[rng.integers(len(near), size=4 * count)].tolist():
            unlike = all(
                self.image_ids[i] != self.image_ids[j] and self.sequences[i] != self.sequences[j] for j in chosen
            )
            if unlike and len(chosen) <= count:
                chosen.append(i)
        return chosen[1:]

    def _encode(self, text: str) -> list[int]:
        return caption_ids(self.tokenizer, text, self.max_tokens)


def pick(items: Sequence, count: int, rng: np.random.Generator) -> list:
    """`count` different items in random order, or all of them where there are fewer."""
    return [items[i] for i in rng.permutation(len(items))[:count]]


@dataclass(frozen=True)
class Candidate(Generic[Content]):
    """A caption (ids) or retrieved image (its id), what it is scored with, and the pairs whose row it stands in."""

    content: Content
    partner: int  # captions: row of contrast_images; retrieved ones: number of the sample in the batch
    rows: set[int]
    positive: bool


def candidate_rows(candidates: Sequence[Candidate[list[int]] | Candidate[str]], pairs: int) -> Arrays:
    """`grid` [pairs, K]: which candidates make up each pair's row; `positive` and `valid` [pairs, K] 0/1."""
    members: list[list[int]] = [[] for _ in range(pairs)]
    for index, candidate in enumerate(candidates):
        for row in candidate.rows:
            members[row].append(index)
    grid = np.zeros((pairs, max(map(len, members))), np.int64)
    valid = np.zeros(grid.shape, np.float32)
    for row, member in enumerate(members):
        grid[row, : len(member)], valid[row, : len(member)] = member, 1
    positive = np.array([c.positive for c in candidates], np.float32)
    return {"grid": grid, "positive": positive[grid] * valid, "valid": valid}
