"""A servable's signatures, as people read them."""

from __future__ import annotations

from serving_app.core.metadata import Metadata
from serving_app.core.servable import ServableId
from serving_app.core.signatures import DType, Signature, TensorSpec


def test_its_text_lists_the_signatures() -> None:
    """Each signature is told with its method and with the names, types and shapes of what goes in and comes out; what
    only a loader runs is not."""
    metadata = Metadata(
        ServableId("m", 3),
        {
            "serving_default": Signature(
                {"x": TensorSpec("x:0", DType.FLOAT, (-1, 3)), "name": TensorSpec("n:0", DType.STRING, None)},
                {"y": TensorSpec("y:0", 99, ())},
                "tensorflow/serving/predict",
            ),
            "nothing": Signature({}, {}),
            "__saved_model_init_op": Signature({}, {"__saved_model_init_op": TensorSpec("NoOp", DType.INVALID, None)}),
        },
    )
    assert str(metadata) == (
        "m, version 3\n"
        "  serving_default (tensorflow/serving/predict)\n"
        "    input  x     float [?, 3]\n"
        "    input  name  string of any shape\n"
        "    output y  unknown type 99 []\n"
        "  nothing (no method)"
    )
