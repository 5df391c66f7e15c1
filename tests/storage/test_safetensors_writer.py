import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from safetensors.numpy import load_file

from unimo.storage.safetensors_writer import write_safetensors

DTYPES = ["float32", "float16", "float64", "int64", "int32", "bool"]


@settings(deadline=None, max_examples=50)
@given(
    st.dictionaries(
        st.text(min_size=1, max_size=8).filter(lambda name: name != "__metadata__"),
        st.sampled_from(DTYPES).flatmap(
            lambda d: arrays(d, array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4))
        ),
        max_size=5,
    )
)
def test_our_writer_writes_what_the_library_reads(tmp_path_factory, tensors):
    path = tmp_path_factory.mktemp("st") / "x.safetensors"
    shapes = {name: (str(a.dtype), list(a.shape)) for name, a in tensors.items()}
    write_safetensors(path, shapes, tensors.values())
    read = load_file(path)
    assert read.keys() == tensors.keys()
    for name, array in tensors.items():
        np.testing.assert_array_equal(read[name], array)
