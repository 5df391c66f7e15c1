"""The score matrix without padding equals scoring every pair by an ordinary padded forward pass."""

import numpy as np
import paddle
from unpadded import FEATURES, WORDS, caption, picture

from unimo.evaluate.pair_scorers import pair_scorer, pair_scores
from unimo.evaluate.scoring import cost, plan_blocks, score_matrix
from unimo.models.unimo import Regions, Text, Unimo, UnimoConfig

CONFIG = UnimoConfig(
    hidden_size=32, num_hidden_layers=2, num_attention_heads=4, vocab_size=WORDS, image_embedding_size=FEATURES,
    max_position_embeddings=20,
)  # fmt: skip


def padded(text: Text, regions: Regions, size: int, slots: int) -> tuple[Text, Regions]:
    def pad(x, n, value=0):
        return paddle.concat([x, paddle.full([1, n - x.shape[1], *x.shape[2:]], value, x.dtype)], axis=1)

    return (
        Text(pad(text.ids, size, 1), pad(text.positions, size, 1), pad(text.mask, size)),
        Regions(pad(regions.features, slots), pad(regions.boxes, slots), pad(regions.mask, slots)),
    )


def test_blocks_cover_every_cell_once():
    blocks = plan_blocks([3, 5, 3, 4], [2, 2, 7])
    seen = np.zeros([4, 3], int)
    for block in blocks:
        seen[np.ix_(block.captions, block.images)] += 1
    assert (seen == 1).all()
    assert cost(blocks) == (12, sum((t + r) for t in [3, 5, 3, 4] for r in [2, 2, 7]))


def test_matrix_equals_padded_pairs():
    paddle.seed(0)
    model = Unimo(CONFIG, ["pool", "match"])
    captions = [caption(n) for n in (4, 7, 4, 9, 5)]
    images = [picture(n) for n in (3, 6, 3, 1)]
    model.train()
    done = []
    scores = score_matrix(model, captions, images, batch_positions=40, progress=done.append)
    assert sum(done) == 20 and model.training
    model.eval()
    for row, text in enumerate(captions):
        for column, regions in enumerate(images):
            encoded = model(*padded(text, regions, 12, 8))
            assert abs(model.match_score(encoded).item() - scores[row, column]) < 1e-5


def test_pair_scores_equal_one_joint_pass_per_pair():
    paddle.seed(0)
    model = Unimo(CONFIG, ["pool", "match"])
    model.eval()
    pairs = [padded(caption(n), picture(m), 8, 6) for n, m in ((4, 3), (8, 5), (5, 6))]
    text = {f: paddle.concat([getattr(t, f) for t, _ in pairs]).numpy() for f in ("ids", "positions", "mask")}
    regions = Regions(*(paddle.concat([getattr(r, f) for _, r in pairs]) for f in ("features", "boxes", "mask")))
    rows, columns = [0, 0, 1, 2, 2], [0, 2, 1, 0, 2]
    scores = pair_scores(pair_scorer(model), text, regions, rows, columns)
    for score, row, column in zip(scores.tolist(), rows, columns):
        alone = model.match_score(model(pairs[row][0], pairs[column][1])).item()
        assert abs(alone - score) < 1e-5
