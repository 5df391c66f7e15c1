import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from data_prep.regions.drawing import LETTER, LINE, SIDE, drawing
from unimo.readers.feature_store import RegionRecord

corners = st.lists(st.tuples(*[st.floats(-20, 120, width=32)] * 4), max_size=8)


@settings(max_examples=100, deadline=None)
@given(corners, st.sampled_from([(100, 100), (100, 30), (30, 100)]))
def test_labels_stay_in_the_picture_and_off_one_another_while_there_is_room(boxes, size):
    boxes = np.float32(boxes).reshape(-1, 4)
    boxes = np.concatenate([np.minimum(boxes[:, :2], boxes[:, 2:]), np.maximum(boxes[:, :2], boxes[:, 2:])], axis=1)
    n = len(boxes)
    record = RegionRecord("x", *size, np.zeros((n, 4)), boxes, np.arange(n) % 2, np.linspace(0.9, 0.1, n))
    drawn = drawing(record, ["traffic light", "cat"], None, most=6)
    assert len(drawn["boxes"]) == min(n, 6) and len(drawn["labels"]) == n and max(drawn["w"], drawn["h"]) == SIDE
    placed = []
    for box in drawn["boxes"]:
        left, right = box["label_x"], box["label_x"] + LETTER * len(box["label"])
        assert left >= 0 and (right <= drawn["w"] + 0.1 or left == 0)
        if box["label_y"] + LINE <= drawn["h"]:  # above the last line: there was room
            assert all(abs(y - box["label_y"]) > LINE - 0.2 or right < a + 0.2 or b < left + 0.2 for a, b, y in placed)
        placed.append((left, right, box["label_y"]))
