"""From a model's configuration to what a replica of it is told to hold."""

from __future__ import annotations

from serving_app.config import ModelConfig, ServingConfig, gpu_memory, store_options
from serving_app.core.batching import BatchingChoice
from serving_app.core.servable import ServableId
from serving_app.host import Assignment, Warmup
from serving_app.runtime.loader import LoadOptions


def assignment_for(servable: ServableId, path: str, model: ModelConfig, config: ServingConfig) -> Assignment:
    """Everything a Host needs to load and run this version."""
    batching = batching_of(model)
    gpu = gpu_memory(model.num_gpus, model.session)
    return Assignment(
        servable=servable,
        path=path,
        platform=model.platform,
        load=LoadOptions(
            tags=model.tags,
            intra_op_parallelism=model.session.intra_op_parallelism,
            inter_op_parallelism=model.session.inter_op_parallelism,
            gpu_memory_fraction=gpu.fraction,
            gpu_allow_growth=gpu.allow_growth,
            xla=model.session.xla,
            mixed_precision=model.session.mixed_precision,
            custom_op_libraries=model.custom_op_libraries,
            session_config=model.session.encode_base(),
            prefer_tflite=model.prefer_tflite,
            tflite_interpreters=model.tflite.interpreters,
            tflite_threads=model.tflite.threads,
        ),
        batching=batching.limits,
        batching_from_version=batching.from_version,
        warmup=Warmup(
            enabled=model.warmup.enabled,
            iterations=model.warmup.iterations,
            synthetic=model.warmup.synthetic,
            batch_sizes=model.warmup.batch_sizes,
        ),
        storage_options=store_options(config, path, model),
        cache_dir=config.cache_dir,
        cache_max_bytes=config.cache_max_bytes,
    )


def batching_of(model: ModelConfig) -> BatchingChoice:
    """How versions of this model are to be batched; it may change while they are loaded."""
    settings = model.batching
    if settings is None:
        return BatchingChoice()
    return BatchingChoice(settings.limits(), settings.enable_per_model_batching_parameters)
