"""Every setting of the application: what it is called, what it means, what holds when it is not given.

Values are read once, at the edge, and passed down frozen. Each form in which a user may write a configuration has a
reader of its own, and all of them go through `parse`.
"""

from serving_app.config.arguments import from_args
from serving_app.config.batching import BatchingConfig
from serving_app.config.errors import ConfigError
from serving_app.config.gateway import GatewayConfig
from serving_app.config.gpu_memory import GpuMemory, gpu_memory
from serving_app.config.intents import to_intents
from serving_app.config.model import AutoscalingConfig, ModelConfig, SessionConfig
from serving_app.config.parsing import parse
from serving_app.config.serving import LoadConfig, ServingConfig
from serving_app.config.yaml_file import load_yaml, parse_yaml, to_yaml

__all__ = [
    "AutoscalingConfig",
    "BatchingConfig",
    "ConfigError",
    "GatewayConfig",
    "GpuMemory",
    "LoadConfig",
    "ModelConfig",
    "ServingConfig",
    "SessionConfig",
    "from_args",
    "gpu_memory",
    "load_yaml",
    "parse",
    "parse_yaml",
    "to_intents",
    "to_yaml",
]
