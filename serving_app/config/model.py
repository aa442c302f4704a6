"""What can be said about one model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, Field, ValidationInfo, field_validator, model_validator

from serving_app.config.batching import BatchingConfig
from serving_app.config.errors import ConfigError
from serving_app.config.locations import is_absolute, is_web
from serving_app.config.options import Options
from serving_app.config.proto_text import parse_proto_text
from serving_app.config.settings import Form, Settings
from serving_app.config.sizes import Reservation
from serving_app.config.traffic import TrafficConfig
from serving_app.config.version_policy import MAX_VERSION, VersionPolicySetting
from serving_app.core.policies import Latest
from serving_app.core.traffic import DEFAULT_TARGET
from serving_app.protocol import messages


def _split_list(value: object) -> object:
    """The items of a text that separates them by commas, as TensorFlow Serving's flags do."""
    if isinstance(value, str):
        return [item.strip() for item in value.split(",") if item.strip()]
    return value


def _check_share(value: float) -> float:
    if value > 1 and value != int(value):
        raise ValueError(f"more than one GPU is counted in whole ones, got {value}; write {int(value)}")
    return value


def _check_session(text: str) -> str:
    """The text itself, if it can be read as what it is to be."""
    try:
        parse_proto_text(text, messages.ConfigProto())
    except ConfigError as error:
        raise ValueError(f"it is no tensorflow.ConfigProto: {error.message}") from error
    return text


Texts = Annotated[tuple[str, ...], BeforeValidator(_split_list), Form("list of text, or text with commas")]
SessionText = Annotated[str, AfterValidator(_check_session)]


class AutoscalingConfig(Settings):
    """How many replicas each version of a model has, depending on its load."""

    min_replicas: int = Field(default=1, ge=1, description="Replicas that a version has however little it is asked.")
    max_replicas: int = Field(default=2, ge=1, description="Replicas that a version has at most.")
    target_ongoing_requests: float = Field(
        default=2.0,
        gt=0,
        description="Calls that each replica should have in hand on average; more lead to more replicas.",
    )

    upscale_delay_s: float = Field(
        default=5.0, ge=0, description="Seconds that the load must be high before there are more replicas."
    )
    downscale_delay_s: float = Field(
        default=300.0, ge=0, description="Seconds that the load must be low before there are fewer replicas."
    )

    @model_validator(mode="after")
    def _check_order(self) -> AutoscalingConfig:
        if self.max_replicas < self.min_replicas:
            raise ValueError(
                f"max_replicas ({self.max_replicas}) is below min_replicas "
                f"({self.min_replicas}); raise it or lower min_replicas"
            )
        return self


class SessionConfig(Settings):
    """How TensorFlow runs a version inside each of its replicas."""

    intra_op_parallelism: int | None = Field(
        default=None,
        ge=0,
        description="Threads that one operation may use; 0 lets TensorFlow take one per core of the machine, as null "
        "does where `config_proto` names no number, unless the container has fewer: then null takes one for each of "
        "those.",
    )
    inter_op_parallelism: int | None = Field(
        default=None,
        ge=0,
        description="Operations that may run at once; 0 lets TensorFlow take one per core of the machine, as null "
        "does where `config_proto` names no number, unless the container has fewer: then null takes one for each of "
        "those.",
    )
    gpu_memory_fraction: float | None = Field(
        default=None,
        gt=0,
        le=1,
        description="Part of a GPU's memory that TensorFlow may take; null derives it from `num_gpus`: a share below "
        "one GPU gets that share less a tenth, anything else gets all.",
    )
    gpu_allow_growth: bool | None = Field(
        default=None,
        description="Whether TensorFlow takes GPU memory as it needs it instead of all at the start; null means yes "
        "only for a replica that reserves no GPU.",
    )
    config_proto: SessionText = Field(
        default="",
        description="A tensorflow.ConfigProto in protobuf's text form, for everything that has no setting of its own. "
        "What is given beside it goes on top of it.",
    )
    xla: bool | None = Field(
        default=None,
        description="Whether TensorFlow looks for parts of the graph to compile by XLA (on a GPU; what the exporter "
        "marked with jit_compile is compiled in any case); null leaves it to `config_proto`.",
    )
    mixed_precision: Literal["bfloat16"] | None = Field(
        default=None,
        description="The type in which operations compute that can do with less than float32; null changes nothing.",
    )

    def encode_base(self) -> bytes:
        """`config_proto` as a serialised message."""
        encoded: bytes = parse_proto_text(self.config_proto, messages.ConfigProto()).SerializeToString()
        return encoded


class TfliteConfig(Settings):
    """How a version runs that is served from its model.tflite."""

    interpreters: int | None = Field(
        default=None,
        ge=1,
        description="Requests that each replica runs at once, each in an interpreter of its own, which are made as "
        "they are needed; null means one per core of the machine.",
    )
    threads: int = Field(default=1, ge=1, description="Threads that one interpreter may use for a request.")


class WarmupConfig(Settings):
    """Requests that a replica answers to itself before it takes traffic."""

    enabled: bool = Field(
        default=True,
        description="Whether the requests in a version's assets.extra/tf_serving_warmup_requests are run.",
    )
    iterations: int = Field(default=1, ge=1, description="How often each of these requests is run.")
    synthetic: bool = Field(
        default=False,
        description="Whether requests made up from the signatures are run as well, one per signature and batch size.",
    )
    batch_sizes: tuple[Annotated[int, Field(ge=1)], ...] = Field(
        default=(1,), min_length=1, description="The batch sizes of requests that are made up."
    )


class ModelConfig(Settings):
    """One model: where its versions lie, which of them are served, and what each replica of a version gets."""

    name: str = Field(default="default", min_length=1, description="The name by which requests ask for the model.")
    base_path: str = Field(
        description="The directory that holds one sub-directory per version, named by its number: an absolute path or "
        "a URI such as s3://bucket/model."
    )
    platform: str = Field(
        default="tensorflow", min_length=1, description="The runtime that loads the model's versions."
    )
    version_policy: VersionPolicySetting = Field(
        default=Latest(), description="Which of the versions found under the base path are served."
    )
    aspired_version_policy: Literal["availability_preserving", "resource_preserving"] = Field(
        default="availability_preserving",
        description="Whether a new version is loaded before the old one goes (always one that answers), or after "
        "(never two in memory).",
    )
    labels: Mapping[Annotated[str, Field(min_length=1)], Annotated[int, Field(ge=0, le=MAX_VERSION)]] = Field(
        default={}, description="Names for versions, by which requests may ask for them: {stable: 3, canary: 4}."
    )
    traffic: Mapping[Annotated[str, Field(min_length=1)], TrafficConfig] = Field(
        default={},
        description="How requests are shared among versions: those that name a label by that label, those that name "
        "neither a version nor a label by `default`. The versions named here are served besides the policy's.",
    )
    rollout: str | None = Field(
        default=None,
        min_length=1,
        description="The strategy, of `rollout_strategies`, by which new versions take over the requests that name "
        "neither a version nor a label; null lets them do so as soon as they are ready.",
    )
    placement: Literal["dedicated", "colocated"] = Field(
        default="dedicated",
        description="Where versions live: in replicas of their own, or in the process of every gateway, which answers "
        "small models soonest and gives up their isolation. At run time a version moves without a gap.",
    )
    replicas: int | None = Field(
        default=None,
        ge=1,
        description="Replicas that each version has; null means 1, or what `autoscaling` finds right.",
    )
    autoscaling: AutoscalingConfig | None = Field(
        default=None, description="The range in which the number of replicas follows the load, in place of `replicas`."
    )
    num_cpus: float = Field(
        default=0.1,
        ge=0,
        description="CPUs that each replica reserves; small by default, so that many versions fit on a small machine, "
        "and no limit to what it uses.",
    )
    num_gpus: Annotated[float, AfterValidator(_check_share)] = Field(
        default=0.0, ge=0, description="GPUs that each replica reserves: a fraction of one, or whole ones."
    )
    memory: Reservation | None = Field(
        default=None,
        description="Main memory that each replica reserves: a size, `estimate` for `memory_factor` times the size of "
        "the version's files, or null for none.",
    )
    memory_factor: float = Field(
        default=1.2,
        gt=0,
        description="Memory that a version is expected to need for each byte of its files. One that needs more than "
        "any node has is reported and not loaded.",
    )
    max_ongoing_requests: int = Field(
        default=64,
        ge=1,
        description="Calls that one replica has in hand at most; further ones wait where they come from.",
    )
    session: SessionConfig = Field(default=SessionConfig(), description="How TensorFlow runs inside each replica.")
    tags: Texts = Field(
        default=("serve",),
        min_length=1,
        description="The tags of the graph to load, of those that the SavedModel holds.",
    )
    custom_op_libraries: Texts = Field(
        default=(),
        description="Paths of shared libraries with operations that the model needs, on every node that runs it.",
    )
    prefer_tflite: bool = Field(
        default=False,
        description="Whether a version that has a file model.tflite is served from that instead of its SavedModel, "
        "which then need not be there. Needs the extra `tflite`.",
    )
    tflite: TfliteConfig = Field(default=TfliteConfig(), description="How a version runs that is served so.")
    batching: BatchingConfig | None = Field(
        default=None, description="How requests are joined into batches; null runs each request by itself."
    )
    warmup: WarmupConfig = Field(
        default=WarmupConfig(), description="Requests that a replica answers to itself before it takes traffic."
    )
    poll_interval_s: float | None = Field(
        default=None, ge=0, description="Seconds between two looks for versions of this model; null means as for all."
    )
    settle_s: float = Field(
        default=1.0,
        ge=0,
        description="Seconds for which the files of a new version must not change before it counts as finished.",
    )
    give_up_s: float | None = Field(
        default=900.0,
        ge=0,
        description="Seconds for which a version that lacks files must not change before it is loaded all the same: "
        "that fails, and the error tells what is missing. It should be longer than the largest file takes to upload, "
        "of which an object store shows nothing until all of it is there; null never loads such a version.",
    )
    done_marker: str | None = Field(
        default=None,
        min_length=1,
        description="The name of a file in a version's directory that says that the version is finished; if given, "
        "`settle_s` does not matter, and a version without the file is never loaded.",
    )
    storage_options: Options = Field(
        default={}, description="What fsspec needs to reach the base path, such as an endpoint or credentials."
    )
    load_timeout_s: float = Field(
        default=600.0, gt=0, description="Seconds that a version may take to come up before its load counts as failed."
    )
    drain_timeout_s: float = Field(
        default=30.0,
        ge=0,
        description="Seconds that a replica of a version that goes may take to finish what it has in hand.",
    )

    @field_validator("base_path")
    @classmethod
    def _check_base_path(cls, value: str, info: ValidationInfo) -> str:
        if not is_absolute(value):
            # The first sentence is TensorFlow Serving's (server_core.cc, ValidateModelConfig).
            raise ValueError(
                f"Expected model {info.data.get('name')} to have an absolute path or URI; got base_path()={value}. "
                "Write the whole path, such as /models/half_plus_two, or a URI, such as s3://bucket/half_plus_two"
            )
        if is_web(value):
            raise ValueError(
                f"{value} is on a web server, which does not tell what versions it has; put the versions where they "
                "can be listed: a directory on every node, or a bucket such as s3://bucket/half_plus_two"
            )
        return value

    @field_validator("done_marker")
    @classmethod
    def _check_done_marker(cls, value: str | None) -> str | None:
        if value is not None and ("/" in value or value in {".", ".."}):
            raise ValueError(f"{value!r} is not the name of a file in a version's directory; write a name such as DONE")
        return value

    @model_validator(mode="after")
    def _check_traffic(self) -> ModelConfig:
        if DEFAULT_TARGET in self.traffic and DEFAULT_TARGET in self.labels:
            raise ValueError(
                f"model {self.name} has a label {DEFAULT_TARGET}, which means in traffic the requests that name no "
                "label; give the label another name"
            )
        for target, traffic in self.traffic.items():
            for rule in traffic.audience:
                if rule.label is not None and rule.label not in self.labels:
                    raise ValueError(
                        f"model {self.name} sends an audience of {target} to label {rule.label}, which it does not "
                        "have; add the label, or name the version"
                    )
        return self

    @model_validator(mode="after")
    def _check_placement(self) -> ModelConfig:
        if self.placement == "dedicated":
            return self
        if self.num_gpus:
            raise ValueError(
                f"model {self.name} is colocated and has num_gpus {self.num_gpus:g}, but gateways have no GPUs; give "
                "it the placement dedicated, or no GPU"
            )
        for setting in ("replicas", "autoscaling"):
            if getattr(self, setting) is not None:
                raise ValueError(
                    f"model {self.name} is colocated and has {setting}, but each gateway holds it once; set "
                    f"gateway.replicas and take {setting} away, or give the model the placement dedicated"
                )
        return self

    @model_validator(mode="after")
    def _check_one_way_to_scale(self) -> ModelConfig:
        if self.replicas is not None and self.autoscaling is not None:
            raise ValueError(
                f"model {self.name} has both replicas and autoscaling; keep replicas for a fixed number, or "
                "autoscaling for a range"
            )
        return self
