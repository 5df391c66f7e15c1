"""How well one number answers the sample `entailment`: the ridge of retrieval, and a threshold chosen on dev.

    python tests/benchmarks/entailment_ridge.py data/quickstart data/samples/entailment runs/understanding/start

A mean region feature predicts the sentence vector of a caption that holds of the picture (`fit_ridge`, on the captions
of train). A statement is said to hold where its own vector is near enough to that. The third argument is a UNIMO from
MiniLM, which encodes the sentences. Half a minute.
"""

import json
import sys
from pathlib import Path

import numpy as np
import paddle

from unimo.engine.model_folder import read_network, read_sizes
from unimo.evaluate.gallery import Gallery, RetrievalSettings
from unimo.evaluate.results import Sample, measure
from unimo.evaluate.ridge import fit_ridge, text_vectors, unit
from unimo.readers.captions import caption_ids
from unimo.readers.examples import read_examples
from unimo.readers.tokenizer import load_tokenizer

MAX_TOKENS = 32


def main(data: Path, sample: Path, folder: Path) -> None:
    """Prints the accuracy on test."""
    model, tokenizer = read_network(folder, ("unimo",)), load_tokenizer(folder)
    config, _ = read_sizes(folder, ("unimo",))
    pairs, regions = str(data / "pairs.jsonl"), (str(data / "regions"),)
    galleries = {
        split: Gallery(config, tokenizer, RetrievalSettings(pairs=pairs, regions=regions, max_tokens=MAX_TOKENS), split)
        for split in ("train", "dev", "test")
    }
    train, dev = (galleries[split].captioned() for split in ("train", "dev"))
    match, _ = fit_ridge(model, train, dev, tokenizer.pad_id)

    def judged(split: str) -> tuple[np.ndarray, np.ndarray]:
        """Cosine of each statement with its picture, and whether it holds. [n] float32, [n] bool"""
        examples, gallery = read_examples(sample / "examples.jsonl", split), galleries[split]
        with paddle.no_grad():
            predicted = np.concatenate([match.encode_images(picture)[0].numpy() for picture in gallery.pictures()])
        row = {image_id: number for number, image_id in enumerate(gallery.units)}
        sequences = [caption_ids(tokenizer, example.source[0], MAX_TOKENS) for example in examples]
        vectors = unit(text_vectors(model, sequences, tokenizer.pad_id) - match.centre.numpy())
        cosines = (vectors * predicted[[row[example.image_id] for example in examples]]).sum(1)
        return cosines, np.array([example.target == "entailment" for example in examples])

    cosines, holds = judged("dev")
    threshold = max(cosines, key=lambda least: ((cosines >= least) == holds).mean())
    cosines, holds = judged("test")
    print(measure(Sample((cosines >= threshold) == holds, np.ones(len(holds))), chance=float(holds.mean())))
    print(json.dumps({"threshold": float(threshold), "statements": len(holds)}))


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
