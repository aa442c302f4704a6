"""PyTriton: Triton's own front for HTTP and gRPC, written in C++, its dynamic batching, and the model in a Python
process that it asks through shared memory."""

import arguments
import numpy as np
from pytriton.decorators import batch
from pytriton.model_config import DynamicBatcher, ModelConfig, Tensor
from pytriton.triton import Triton, TritonConfig
from saved_model import SavedModel

options = arguments.read()
model = SavedModel(options.model)


@batch
def infer(**inputs):
    """Rows in, rows out. Triton wants a dimension after the rows, also where the model has none."""
    outputs = model(inputs)
    return {name: value.reshape(len(value), -1) if value.ndim == 1 else value for name, value in outputs.items()}


def tensor(name, dtype, shape):
    """How Triton is told about one."""
    return Tensor(name=name, dtype=bytes if dtype.kind == "O" else dtype, shape=[size or -1 for size in shape] or (1,))


config = TritonConfig(
    http_address="127.0.0.1",
    http_port=options.http_port,
    grpc_port=options.grpc_port,
    metrics_port=options.other_port,
    allow_metrics=False,
    log_verbose=0,
)
with Triton(config=config) as triton:
    triton.bind(
        model_name="model",
        infer_func=infer,
        inputs=[tensor(name, model.dtypes[name], model.shapes[name]) for name in model.dtypes],
        outputs=[tensor(name, np.dtype(np.float32), shape) for name, shape in model.outputs.items()],
        config=ModelConfig(
            max_batch_size=arguments.MAX_BATCH, batching=True, batcher=DynamicBatcher(max_queue_delay_microseconds=0)
        ),
        strict=False,
    )
    triton.serve()
