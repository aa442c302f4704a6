"""Every setting of the application: what it is called, what it means, what holds when it is not given.

Values are read once, at the edge, and passed down frozen. Each form in which a user may write a configuration has a
reader of its own, and all of them go through `parse`.
"""

from serving_app.config.arguments import from_args
from serving_app.config.batching import BatchingConfig
from serving_app.config.conversion import Conversion, convert
from serving_app.config.deployment import check_deployed
from serving_app.config.errors import ConfigError
from serving_app.config.forms import read_any, read_edit, read_model_file
from serving_app.config.gateway import GatewayConfig
from serving_app.config.gpu_memory import GpuMemory, gpu_memory
from serving_app.config.intents import to_intents, traffic_of
from serving_app.config.model import AutoscalingConfig, ModelConfig, SessionConfig
from serving_app.config.model_server_config import (
    read_model_server_config,
    read_reload_config,
    to_models,
    write_model_server_config,
)
from serving_app.config.parsing import parse
from serving_app.config.plan import (
    add_model,
    check_edit,
    delete_label,
    delete_traffic,
    make_plan,
    replace_models,
    set_label,
    set_traffic,
)
from serving_app.config.secrets import redact, restore_secrets
from serving_app.config.serving import LoadConfig, ServingConfig
from serving_app.config.stores import store_options
from serving_app.config.yaml_file import load_yaml, parse_yaml, read_mapping, to_yaml

__all__ = [
    "AutoscalingConfig",
    "BatchingConfig",
    "ConfigError",
    "Conversion",
    "GatewayConfig",
    "GpuMemory",
    "LoadConfig",
    "ModelConfig",
    "ServingConfig",
    "SessionConfig",
    "add_model",
    "check_deployed",
    "check_edit",
    "convert",
    "delete_label",
    "delete_traffic",
    "from_args",
    "gpu_memory",
    "load_yaml",
    "make_plan",
    "parse",
    "parse_yaml",
    "read_any",
    "read_edit",
    "read_mapping",
    "read_model_file",
    "read_model_server_config",
    "read_reload_config",
    "redact",
    "replace_models",
    "restore_secrets",
    "set_label",
    "set_traffic",
    "store_options",
    "to_intents",
    "to_models",
    "to_yaml",
    "traffic_of",
    "write_model_server_config",
]
