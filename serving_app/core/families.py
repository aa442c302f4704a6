"""Every metric that is counted: TensorFlow Serving's with its names, labels and buckets, and some of our own.

Labels that TensorFlow Serving does not have come after those that it has. Latencies are whole microseconds. The page
`docs/metrics.md` says the same for people.
"""

from __future__ import annotations

from serving_app.core.metrics import Family, Kind, Labels, Snapshot, exponential

_LATENCY = exponential(10, 1.8, 33)
_ROWS = exponential(1, 2, 14)


def _count(name: str, help: str, labels: tuple[str, ...] = (), ours: tuple[str, ...] = ()) -> Family:
    return Family(name, Kind.COUNTER, help, (*labels, *ours), len(labels))


def _gauge(name: str, help: str, labels: tuple[str, ...] = (), ours: tuple[str, ...] = ()) -> Family:
    return Family(name, Kind.GAUGE, help, (*labels, *ours), len(labels))


def _histogram(
    name: str, limits: tuple[float, ...], help: str, labels: tuple[str, ...] = (), ours: tuple[str, ...] = ()
) -> Family:
    return Family(name, Kind.HISTOGRAM, help, (*labels, *ours), len(labels), limits)


_TFS = "/tensorflow/serving"
_ASKED = ("version", "signature")
_HELD = ("model_name", "version")
_STAGED = (*_HELD, "entrypoint", "stage")
_CALLED = ("version", "signature", "named")
_MIRRORED = (*_HELD, "candidate")
_MIRRORED_OUTPUT = (*_MIRRORED, "signature", "output")
_DIFFERENCES = exponential(1e-9, 10**0.5, 31)
_TENTHS = tuple(tenth / 10 for tenth in range(11))
_POSITIVE = (*_TENTHS[1:], *exponential(2**0.5, 2**0.5, 20), 1e4, 1e5, 1e6)
_VALUES = (*(-value for value in reversed(_POSITIVE)), 0.0, *_POSITIVE)

REQUEST_COUNT = _count(
    f"{_TFS}/request_count",
    "Requests by the outcome: gRPC's Predict, Classify and Regress, and all of REST's below `/v1/`.",
    ("model_name", "status"), _ASKED,
)  # fmt: skip
REQUEST_LATENCY = _histogram(
    f"{_TFS}/request_latency", _LATENCY,
    "What the gateway took for requests that succeeded, from the whole request to the whole answer, in microseconds.",
    ("model_name", "API", "entrypoint"), _ASKED,
)  # fmt: skip
RUNTIME_LATENCY = _histogram(
    f"{_TFS}/runtime_latency", _LATENCY,
    "What runs of the model took that succeeded, with the wait for their batch where there are batches, in "
    "microseconds; warm-up and Python callers among them.",
    ("model_name", "API", "runtime"), _ASKED,
)  # fmt: skip
REQUEST_EXAMPLE_COUNTS = _histogram(
    f"{_TFS}/request_example_counts", exponential(1, 2, 15), "Examples in each MultiInference request.",
    ("model",), ("version",),
)  # fmt: skip
REQUEST_EXAMPLE_COUNT_TOTAL = _count(
    f"{_TFS}/request_example_count_total", "Examples in all MultiInference requests.", ("model",), ("version",)
)
MODEL_WARMUP_LATENCY = _histogram(
    f"{_TFS}/model_warmup_latency", _LATENCY,
    "What the requests of a version's warm-up file took, all together, in microseconds.", ("model_path", "status"),
)  # fmt: skip
MODEL_WARMUP_RECORDS_READ = _count(
    f"{_TFS}/model_warmup_records_read", "Records read from warm-up files.", ("model_path", "status")
)
REQUEST_LOG_COUNT = _count(
    f"{_TFS}/request_log_count", "Requests that were logged: none, as in TensorFlow Serving's stock server.",
    ("model_name", "status_code"),
)  # fmt: skip
MLMD_MAP = _gauge(
    f"{_TFS}/mlmd_map", "Never set, as by any flag of TensorFlow Serving.", ("model_name", "version")
)
QUEUING_LATENCY = _histogram(
    f"{_TFS}/batching_session/queuing_latency", exponential(100, 1.2, 52),
    "How long requests waited for their batch, in microseconds.", ("thread_pool_name",), _HELD,
)  # fmt: skip
WRAPPED_RUN_COUNT = _count(
    f"{_TFS}/batching_session/wrapped_run_count", "Batches that were run.", (), _HELD
)
INPUT_BATCH_SIZE = _histogram(
    f"{_TFS}/batching_session/input_batch_size", _ROWS, "Rows of requests that are batched, once per input tensor.",
    (), _HELD,
)  # fmt: skip
PROCESSED_BATCH_SIZE = _histogram(
    f"{_TFS}/batching_session/processed_batch_size", _ROWS, "Rows of batches that were run, with the filling.",
    (), _HELD,
)  # fmt: skip
PADDING_SIZE = _histogram(
    f"{_TFS}/batching_session/padding_size", _ROWS, "Rows by which batches were filled up to an allowed size.",
    ("execution_batch_size",), _HELD,
)  # fmt: skip

BATCHES = _count(
    "serving_app_batches",
    "Batches that were run, by why each was released: full, no_fit (a request came that did not fit), timeout (of "
    "batch_timeout_micros), thread_free (without a timeout), or closed (the settings of batching changed).",
    (), ("model_name", "version", "reason"),
)  # fmt: skip
STAGE_MICROSECONDS = _count(
    "serving_app_stage_microseconds",
    "What requests that succeeded and asked a version spent in each stage: decode, queue (in the gateway), hop (there "
    "and back), batch_wait (for a batch or a thread), run, resume (until the gateway comes to the answer), encode.",
    (), _STAGED,
)  # fmt: skip
STAGE_REQUESTS = _count("serving_app_stage_requests", "Requests that have passed each stage.", (), _STAGED)
VERSIONS = _gauge(
    "serving_app_versions", "Versions by the state that GetModelStatus tells; ended ones are counted while they are "
    "listed there.", (), ("model_name", "state"),
)  # fmt: skip
IN_FLIGHT = _gauge("serving_app_in_flight_requests", "Requests that a gateway is answering.", (), ("gateway",))
WAITING = _gauge(
    "serving_app_waiting_calls", "Calls that wait in gateways for their way to a replica.", (), _HELD
)
RUNNING = _gauge(
    "serving_app_running_calls", "Calls that replicas, or gateways for colocated versions, have in hand.", (), _HELD
)
REPLICAS = _gauge("serving_app_replicas", "Replicas, or gateways, that hold a version and report.", (), _HELD)
OTHER_REQUESTS = _count(
    "serving_app_other_requests", "gRPC requests that request_count leaves out, by method and outcome.",
    (), ("method", "status"),
)  # fmt: skip
LOADS = _count(
    "serving_app_loads", "Loads of versions in replicas and gateways, by outcome.", (), ("model_name", "status")
)
LOAD_SECONDS = _histogram(
    "serving_app_load_seconds", exponential(0.1, 2, 14),
    "What loads that succeeded took, from the fetch to the end of warm-up, in seconds.", (), ("model_name",),
)  # fmt: skip
CALLER_REQUESTS = _count(
    "serving_app_caller_requests",
    "Requests of Python callers by the outcome, and by how they named the version: number, label, or latest. One that "
    "is refused and tried again counts each time.",
    (), ("model_name", "status", *_CALLED),
)  # fmt: skip
CALLER_LATENCY = _histogram(
    "serving_app_caller_latency", _LATENCY,
    "What requests of Python callers took that succeeded, from when they are routed to their outputs, in microseconds.",
    (), ("model_name", "API", *_CALLED),
)  # fmt: skip
MIRROR_REQUESTS = _count(
    "serving_app_mirror_requests",
    "Requests of which the candidate got a copy, by the outcome of both; where both succeeded by their agreement, too: "
    "same or different.",
    (), (*_MIRRORED, "status", "candidate_status", "agreement"),
)  # fmt: skip
MIRROR_LATENCY = _histogram(
    "serving_app_mirror_latency", _LATENCY,
    "What calls took that were copied, and their copies, as far as they succeeded, in microseconds; of: version, "
    "candidate.",
    (), (*_MIRRORED, "of"),
)  # fmt: skip
MIRROR_DROPPED = _count(
    "serving_app_mirror_dropped",
    "Copies that were not made after all, or given up, by why: gateway_busy, candidate_busy, too_large, gone (the "
    "candidate was unloaded).",
    (), (*_MIRRORED, "reason"),
)  # fmt: skip
MIRROR_OUTPUTS = _count(
    "serving_app_mirror_outputs",
    "Requests that both answered, by output: same (all values within the tolerance), different, or unlike (absent, or "
    "of another shape or type).",
    (), (*_MIRRORED_OUTPUT, "agreement"),
)  # fmt: skip
MIRROR_DIFFERENCE = _histogram(
    "serving_app_mirror_difference", _DIFFERENCES,
    "The largest difference in each output of a request; kind: absolute, or relative to the value that the client has "
    "got.",
    (), (*_MIRRORED_OUTPUT, "kind"),
)  # fmt: skip
MIRROR_TOP = _count(
    "serving_app_mirror_top",
    "Rows of outputs that have several scores a row, by whether the same one is the highest: same, different.",
    (), (*_MIRRORED_OUTPUT, "agreement"),
)  # fmt: skip
MIRROR_SCORES = _histogram(
    "serving_app_mirror_scores", _VALUES,
    "Values of outputs, or the highest score of each row where a row has several; the sum is that of their sizes, each "
    "a million at most; of: version, candidate.",
    (), (*_MIRRORED_OUTPUT, "of"),
)  # fmt: skip
SILENT = _gauge(
    "serving_app_silent_processes",
    "Gateways and replicas that did not answer this scrape in time: what they counted last is counted.",
)

FAMILIES = (
    REQUEST_COUNT, REQUEST_LATENCY, RUNTIME_LATENCY, REQUEST_EXAMPLE_COUNTS, REQUEST_EXAMPLE_COUNT_TOTAL,
    MODEL_WARMUP_LATENCY, MODEL_WARMUP_RECORDS_READ, REQUEST_LOG_COUNT, MLMD_MAP, QUEUING_LATENCY, WRAPPED_RUN_COUNT,
    INPUT_BATCH_SIZE, PROCESSED_BATCH_SIZE, PADDING_SIZE, BATCHES, STAGE_MICROSECONDS, STAGE_REQUESTS, VERSIONS,
    IN_FLIGHT, WAITING, RUNNING, REPLICAS, OTHER_REQUESTS, LOADS, LOAD_SECONDS, CALLER_REQUESTS, CALLER_LATENCY,
    MIRROR_REQUESTS, MIRROR_LATENCY, MIRROR_DROPPED, MIRROR_OUTPUTS, MIRROR_DIFFERENCE, MIRROR_TOP, MIRROR_SCORES,
    SILENT,
)  # fmt: skip
"""All of them."""


def first_value(name: str, snapshot: Snapshot) -> int:
    """The value of a metric where one number is to stand for it (model_service_impl.cc): that of its first cell, by
    the labels that TensorFlow Serving has. 0 where there is none, or no such metric, and of histograms."""
    family = next((family for family in FAMILIES if family.name == name), None)
    if family is None or family.kind is Kind.HISTOGRAM:
        return 0
    shared: dict[Labels, float] = {}
    for labels, value in snapshot.get(name, {}).items():
        assert not isinstance(value, tuple)
        key = labels[: family.shared]
        shared[key] = shared.get(key, 0) + value
    return int(shared[min(shared)]) if shared else 0
