"""The three pre-training streams: texts, images, pairs. Each turns sample numbers into one masked, padded batch.

Every random choice is a function of (seed, epoch, sample) or of (seed, epoch, batch), so batches depend neither on
ranks and workers nor on where a run was resumed. Arrays are numpy; `objectives.py` computes on them.
"""

from collections.abc import Sequence

import numpy as np

from unimo.errors import DataError
from unimo.pretrain.recipe import Contrast, Masking
from unimo.readers.annotations import Image, Pair, Rewrite, Sentence
from unimo.readers.batching import Batch, fingerprint
from unimo.readers.captions import caption_ids, collate_text
from unimo.readers.feature_store import FeatureStore, RegionRecord
from unimo.readers.masking import mask_regions, mask_spans, seq2seq_fragments
from unimo.readers.regions import collate_regions
from unimo.readers.tokenizer import Tokenizer

LENGTH_SLACK = 2  # tokens by which a random negative caption may be longer or shorter (ours)
LENGTH_GRAIN = 8  # candidate captions are grouped by length in steps of this many tokens
Arrays = dict[str, np.ndarray]
Rngs = Sequence[np.random.Generator]


def hide_words(sequences: Sequence[list[int]], tokenizer: Tokenizer, masking: Masking, rngs: Rngs) -> Arrays:
    """Masked spans of [CLS] ... [SEP] sequences: the text stream, `words` [M] (flat positions) and `labels` [M]."""
    masked = [mask_spans(ids, tokenizer, rng, masking.text_ratio) for ids, rng in zip(sequences, rngs)]
    text = collate_text([m.ids for m in masked], tokenizer.pad_id)
    return text | _targets([m.positions for m in masked], [m.labels for m in masked], text["ids"].shape[1])


def cut_fragments(sequences: Sequence[list[int]], tokenizer: Tokenizer, rngs: Rngs) -> Arrays:
    """Source and target of each sequence: as `hide_words`, with `source_lengths` and `lengths` [B] for the mask."""
    cut = [seq2seq_fragments(ids, tokenizer, rng) for ids, rng in zip(sequences, rngs)]
    text = collate_text([c.ids for c in cut], tokenizer.pad_id, [c.positions for c in cut])
    lengths = {
        "source_lengths": np.array([c.source_length for c in cut]),
        "lengths": np.array([len(c.ids) for c in cut]),
    }
    return text | lengths | _targets([c.predict_at for c in cut], [c.labels for c in cut], text["ids"].shape[1])


def _targets(positions: Sequence[np.ndarray], labels: Sequence[np.ndarray], width: int) -> Arrays:
    flat = [row * width + p for row, p in enumerate(positions)]
    return {"words": np.concatenate(flat), "labels": np.concatenate(labels)}


def hide_regions(records: Sequence[RegionRecord], masking: Masking, rngs: Rngs, max_regions: int) -> Arrays:
    """Region stream with masked regions, and what was there.

    Adds `hidden` [B, N] 0/1 and `class_probs` [R, C] float16 of the hidden regions in row order (where the store has
    them). The features stay whole: the loss needs them, and the model's input is made from both in one step.
    """
    regions = collate_regions(records, max_regions, multiple=1)
    hidden, class_probs = np.zeros_like(regions["mask"]), []
    for row, (record, rng) in enumerate(zip(records, rngs)):
        n = min(len(record.boxes), max_regions)
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
        objective, text = predict_words(
            [self.sequences[i] for i in samples], self.tokenizer, self.masking, rngs, batch_rng
        )
        return Batch("text", [self.ids[i] for i in samples], {objective: len(text["labels"])}, {"text": text})


def predict_words(
    sequences: Sequence[list[int]], tokenizer: Tokenizer, masking: Masking, rngs: Rngs, batch_rng: np.random.Generator
) -> tuple[str, Arrays]:
    """The language objective of one batch, chosen by `batch_rng` (the same on all ranks), and its arrays."""
    if batch_rng.random() < masking.seq2seq_share:
        return "seq2seq", cut_fragments(sequences, tokenizer, rngs)
    return "mlm", hide_words(sequences, tokenizer, masking, rngs)


class ImageStream:
    """Images alone, for the masked-region objectives."""

    def __init__(self, images: Sequence[Image | Pair], store: FeatureStore, masking: Masking, max_regions: int):
        self.name, self.store, self.masking, self.max_regions = "image", store, masking, max_regions
        self.ids = [i.image_id for i in images]
        self.lengths = region_slots(store, self.ids, max_regions)[:, None]
        self.fingerprint = fingerprint(self.ids, store.fingerprint, masking, max_regions)

    def batch(self, samples: np.ndarray, rngs: Rngs, batch_rng: np.random.Generator) -> Batch:
        ids = [self.ids[i] for i in samples]
        regions = hide_regions([self.store.read(i) for i in ids], self.masking, rngs, self.max_regions)
        return Batch("image", ids, region_counts(regions), {"regions": regions})


def region_slots(store: FeatureStore, image_ids: Sequence[str], max_regions: int) -> np.ndarray:
    """Slots of each image, the global one included. [n] int64"""
    return np.minimum(store.counts(image_ids), max_regions) + 1


def region_counts(regions: Arrays) -> dict[str, int]:
    """How many regions the masked-region objectives run over."""
    hidden = int(regions["hidden"].sum())
    return {"region_feature": hidden} | ({"region_class": hidden} if "class_probs" in regions else {})


class PairStream:
    """One sample is one caption with its image: a masked pass over the pair, and the candidates of CMCL unmasked.

    Whether the paper masks CMCL's inputs is not known; here they are whole, so that no objective sees another's mask.
    """

    def __init__(
        self,
        pairs: Sequence[Pair],
        rewrites: dict[str, Rewrite],
        store: FeatureStore,
        tokenizer: Tokenizer,
        masking: Masking,
        contrast: Contrast,
        max_tokens: int,
        max_regions: int,
    ):
        self.name, self.store, self.tokenizer, self.masking, self.contrast = "pair", store, tokenizer, masking, contrast
        self.max_tokens, self.max_regions = max_tokens, max_regions
        captions = [(key, p.image_id, text) for p in pairs for key, text in p.captions_by_id().items()]
        self.ids, self.image_ids, self.texts = map(list, zip(*captions))
        self.rewrites = [rewrites.get(key) for key in self.ids]
        self.sequences = [caption_ids(tokenizer, text, max_tokens) for text in self.texts]
        if contrast.random and len(set(self.image_ids)) < 2:
            raise DataError("contrast.random needs captions of at least two images; set it to 0")
        self._by_length = np.argsort([len(s) for s in self.sequences], kind="stable")
        self._sorted_lengths = np.array([len(self.sequences[i]) for i in self._by_length])
        slots = region_slots(store, self.image_ids, max_regions)
        lengths = np.stack([slots, [len(s) for s in self.sequences]], axis=1)
        joint = 1 + contrast.paraphrases + contrast.rewritten + contrast.tfidf + contrast.random
        self.lengths = lengths * (joint + 1)  # a sample costs its masked pass and one pass a joint candidate
        self.fingerprint = fingerprint(
            captions,
            self.rewrites,
            store.fingerprint,
            tokenizer.fingerprint,
            masking,
            contrast,
            max_tokens,
            max_regions,
        )

    def batch(self, samples: np.ndarray, rngs: Rngs, batch_rng: np.random.Generator) -> Batch:
        objective, text = predict_words(
            [self.sequences[i] for i in samples], self.tokenizer, self.masking, rngs, batch_rng
        )
        records = [self.store.read(self.image_ids[i]) for i in samples]
        regions = hide_regions(records, self.masking, rngs, self.max_regions)
        inputs = {"text": text, "regions": regions} | self._candidates(samples, rngs)
        counts = {objective: len(text["labels"]), **region_counts(regions), "cmcl": len(samples)}
        return Batch("pair", [self.ids[i] for i in samples], counts, inputs)

    def _candidates(self, samples: np.ndarray, rngs: Rngs) -> dict[str, Arrays]:
        """What each pair is contrasted with: captions scored jointly, retrieved texts and images encoded alone.

        Captions come in groups of similar length, because one long negative would pad all the others. `owner` [n] of
        each group is the pair that a candidate belongs to; `contrast` tells how the scores of all groups, in this
        order, make up each pair's row.
        """
        groups: dict[str, list] = {}
        texts, images = [], []
        for owner, (sample, rng) in enumerate(zip(samples, rngs)):
            for ids, positive in self._captions(sample, rng):
                width = -(-len(ids) // LENGTH_GRAIN) * LENGTH_GRAIN
                groups.setdefault(f"captions_{width:03d}", []).append((owner, ids, positive))
            if rewrite := self.rewrites[sample]:
                texts += [(owner, self._encode(t), True) for t in pick(rewrite.similar_texts, self.contrast.texts, rng)]
                images += [(owner, i) for i in pick(rewrite.similar_images, self.contrast.images, rng)]
        groups = dict(sorted(groups.items())) | ({"retrieved_texts": texts} if texts else {})
        owners, positives, inputs = [], [], {}
        for name, members in groups.items():
            owner, ids, positive = zip(*members)
            inputs[name] = collate_text(ids, self.tokenizer.pad_id) | {"owner": np.array(owner)}
            owners += owner
            positives += positive
        if images:
            owner, image_ids = zip(*images)
            records = [self.store.read(i) for i in image_ids]
            regions = collate_regions(records, self.max_regions, multiple=1)
            inputs["retrieved_images"] = regions | {"owner": np.array(owner)}
            inputs["own_captions"] = collate_text([self.sequences[i] for i in samples], self.tokenizer.pad_id)
            owners += owner
            positives += [True] * len(owner)
        return inputs | {"contrast": candidate_rows(owners, positives)}

    def _captions(self, sample: int, rng: np.random.Generator) -> list[tuple[list[int], bool]]:
        """X+ and X- that are scored jointly with the image; the caption itself comes first."""
        found, rewrite, settings = [(self.sequences[sample], True)], self.rewrites[sample], self.contrast
        if rewrite:
            tfidf = [n.text for n in rewrite.negatives if n.kind == "tfidf"]
            rewritten = [n.text for n in rewrite.negatives if n.kind != "tfidf"]
            paraphrases = [p.text for p in rewrite.positives]
            found += [(self._encode(t), True) for t in pick(paraphrases, settings.paraphrases, rng)]
            found += [(self._encode(t), False) for t in pick(rewritten, settings.rewritten, rng)]
            found += [(self._encode(t), False) for t in pick(tfidf, settings.tfidf, rng)]
        return found + [(self.sequences[i], False) for i in self._others(sample, settings.random, rng)]

    def _others(self, sample: int, count: int, rng: np.random.Generator) -> list[int]:
        """Captions of other images and other wording, about as long: length gives nothing away, and pads stay few."""
        own = len(self.sequences[sample])
        low, high = np.searchsorted(self._sorted_lengths, [own - LENGTH_SLACK, own + LENGTH_SLACK + 1])
        if high - low <= count:  # a length of its own: take the neighbours in length
            low, high = max(0, low - 2 * count), high + 2 * count
        near = self._by_length[low:high]
        drawn = near[rng.integers(len(near), size=4 * count)]
        unlike = [
            i
            for i in dict.fromkeys(drawn.tolist())
            if self.image_ids[i] != self.image_ids[sample] and self.sequences[i] != self.sequences[sample]
        ]
        return unlike[:count]

    def _encode(self, text: str) -> list[int]:
        return caption_ids(self.tokenizer, text, self.max_tokens)


def pick(items: Sequence, count: int, rng: np.random.Generator) -> list:
    """`count` different items in random order, or all of them where there are fewer."""
    return [items[i] for i in rng.permutation(len(items))[:count]]


def candidate_rows(owners: Sequence[int], positive: Sequence[bool]) -> Arrays:
    """Candidates by pair: `grid` [P, K] indices of each pair's candidates, `positive` and `valid` [P, K] 0/1."""
    owners, rows = np.array(owners), range(max(owners) + 1)
    members = [np.flatnonzero(owners == row) for row in rows]
    grid = np.zeros((len(members), max(map(len, members))), np.int64)
    valid = np.zeros(grid.shape, np.float32)
    for row, member in enumerate(members):
        grid[row, : len(member)], valid[row, : len(member)] = member, 1
    return {"grid": grid, "positive": np.array(positive, np.float32)[grid] * valid, "valid": valid}
