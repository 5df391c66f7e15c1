"""Ids of all formats name pictures, and the way to the ids of `corpora` and back is the identity."""

from hypothesis import given
from hypothesis import strategies as st

from data_prep.picture_ids import from_corpora, named, to_corpora

FORMS = {
    "coco": ["coco-{}", "coco2017-{}", "{}", "{:012d}.jpg", "COCO_train2014_{:012d}", "coco_val2014_{:012d}",
             "val2014/COCO_val2014_{:012d}.jpg"],
    "flickr30k": ["flickr30k-{}", "{}", "{}.jpg", "flickr30k_{:012d}"],
    "visual-genome": ["visual-genome-{}", "vg_{:012d}", "{}"],
}  # fmt: skip
forms = st.sampled_from([(dataset, form) for dataset, every in FORMS.items() for form in every])


@given(forms, st.integers(0, 10**12))
def test_the_way_there_and_back_is_the_identity(of, number):
    dataset, form = of
    theirs = form.format(number)
    ours = to_corpora(theirs, dataset)
    assert ours == f"{dataset}-{number}"
    found = named(theirs, dataset)
    assert found and from_corpora(ours, found[1]) == theirs and to_corpora(ours) == ours


@given(st.text(st.characters(exclude_categories=["N"]), max_size=20))
def test_own_names_stay(name):
    for dataset in (None, "coco", "flickr30k"):
        assert to_corpora(name, dataset) == name and from_corpora(name, "{}") == name
