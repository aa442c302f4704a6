"""What a user is told about a configuration that cannot be used."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import pytest

from serving_app.config import ConfigError, from_args, load_yaml, parse
from serving_app.core.errors import Code, InvalidArgument


def model(**settings: Any) -> dict:
    return {"models": {"m": {"base_path": "/m", **settings}}}


@pytest.mark.parametrize(
    ("data", "place", "words"),
    [
        ({"models": {"m": "models/m"}}, "models.m.base_path", "Expected model m to have an absolute path or URI"),
        ({"models": {"m": "models/m"}}, "models.m.base_path", "got base_path()=models/m. Write the whole path"),
        ({"models": {"m": ""}}, "models.m.base_path", "got base_path()=."),
        ({"models": {"m": "~/m"}}, "models.m.base_path", "absolute path or URI"),
        ({"models": {"m": "s3://"}}, "models.m.base_path", "absolute path or URI"),
        ({"models": [{"name": "m"}]}, "models[0].base_path", "this has no default and must be given"),
        ({"models": {"m": 7}}, "models.m", "expected a mapping of settings with base_path at least, got 7"),
        ({"models": [None]}, "models[0]", "expected a mapping of settings with base_path at least, got None"),
        ({"models": {"m": {"name": "n", "base_path": "/m"}}}, "models", "calls itself 'n'"),
        ({"models": "/m"}, "models", "got '/m'"),
        ({"models": [{"name": "m", "base_path": "/a"}] * 2}, "models", "Illegal to list model m multiple times"),
        ({"model_defaults": {1: None}}, "model_defaults.1", "valid string; got 1"),
        ({"model_defaults": {7: {}, "x": 1}}, "model_defaults.7", "valid string; got 7"),
        ({"modles": []}, "modles", "did you mean models? The settings here are: models, gateway,"),
        ({"gateway": {"rest_prt": 1}}, "gateway.rest_prt", "did you mean rest_port? The settings here are: replicas,"),
        ({"gateway": {"zzz": 1}}, "gateway.zzz", "there is no such setting. The settings here are: replicas,"),
        (model(batching={"max_batch": 1}), "models.m.batching.max_batch", "did you mean max_batch_size?"),
        (model(session={"threads": 1}), "models.m.session.threads", "The settings here are: intra_op_parallelism,"),
        (model(replicas=2, autoscaling={}), "models.m", "model m has both replicas and autoscaling; keep"),
        (model(replicas=0), "models.m.replicas", "greater than or equal to 1; got 0"),
        (model(autoscaling={"min_replicas": 3}), "models.m.autoscaling", "max_replicas (2) is below min_replicas (3)"),
        ({"load": {"retry_base_s": 90}}, "load", "retry_base_s (90.0) is above retry_max_s (60.0); lower it or raise"),
        (model(num_gpus=1.5), "models.m.num_gpus", "more than one GPU is counted in whole ones, got 1.5"),
        (model(num_gpus=-1), "models.m.num_gpus", "greater than or equal to 0; got -1"),
        (model(placement="here"), "models.m.placement", "'dedicated' or 'colocated'"),
        (
            model(placement="colocated", num_gpus=0.5),
            "models.m",
            "model m is colocated and has num_gpus 0.5, but gateways have no GPUs; give it the placement dedicated",
        ),
        (
            model(placement="colocated", replicas=2),
            "models.m",
            "model m is colocated and has replicas, but each gateway holds it once; set gateway.replicas and take",
        ),
        (model(placement="colocated", autoscaling={}), "models.m", "model m is colocated and has autoscaling"),
        (model(num_cpus=float("nan")), "models.m.num_cpus", "finite number; got nan"),
        (model(memory="2 gigs"), "models.m.memory", "'2 gigs' is no amount of memory; write bytes, or a number"),
        (model(memory=0), "models.m.memory", "greater than or equal to 1; got 0"),
        (model(version_policy="newest"), "models.m.version_policy", "'newest' is no version policy; write `latest`"),
        (model(version_policy={"latest": 1, "all": 1}), "models.m.version_policy", "is no version policy; write"),
        (model(version_policy={"latest": -1}), "models.m.version_policy", "`latest` needs whole numbers from 0"),
        (
            model(version_policy={"specific": 3}),
            "models.m.version_policy",
            "`specific` needs a list of versions, got 3",
        ),
        (model(version_policy={"specific": [None]}), "models.m.version_policy", "`specific` needs whole numbers"),
        (model(version_policy={"specific": [2**63]}), "models.m.version_policy", "from 0 to 2^63 - 1"),
        (model(version_policy={"all": 3}), "models.m.version_policy", "`all` takes no argument, but 3 was given"),
        (model(aspired_version_policy="x"), "models.m.aspired_version_policy", "'availability_preserving' or"),
        (model(labels={"stable": "new"}), "models.m.labels.stable", "valid integer"),
        (model(labels={"": 1}), "models.m.labels", "at least 1 character"),
        (model(tags=[]), "models.m.tags", "at least 1 item"),
        (
            model(batching={"max_batch_size": 0}),
            "models.m.batching.max_batch_size",
            "input_batch_size_limit must be positive; was 0: raise max_batch_size",
        ),
        (model(batching={"num_batch_threads": 0}), "models.m.batching.num_batch_threads", "must be positive; was 0"),
        (model(batching={"allowed_batch_sizes": [2, 4]}), "models.m.batching", "last entry was 4; expected 1000"),
        (model(batching={"max_size": 4}), "models.m.batching.max_size", "did you mean max_batch_size?"),
        (model(load_timeout_s=0), "models.m.load_timeout_s", "greater than 0; got 0"),
        ({"gateway": {"rest_port": 70000}}, "gateway.rest_port", "less than or equal to 65535; got 70000"),
        ({"gateway": {"rest_port": True}}, "gateway.rest_port", "a port is a number, 0 for any free one"),
        ({"gateway": {"rest_port": 9, "grpc_port": 9}}, "gateway", "rest_port and grpc_port are both 9"),
        ({"gateway": {"max_request_bytes": "4GiB"}}, "gateway.max_request_bytes", "less than or equal to 2147483647"),
        ({"gateway": 3}, "gateway", "expected a mapping of settings, got 3"),
        ({"poll_interval_s": -1}, "poll_interval_s", "greater than or equal to 0; got -1"),
        ({"models": {"m": "http://host/m"}}, "models.m.base_path", "http://host/m is on a web server, which does not"),
        ({"models": {"m": "HTTPS://host/m"}}, "models.m.base_path", "a bucket such as s3://bucket/half_plus_two"),
        (model(done_marker="a/b"), "models.m.done_marker", "'a/b' is not the name of a file in a version's directory"),
        (model(done_marker=".."), "models.m.done_marker", "write a name such as DONE"),
        (model(done_marker=""), "models.m.done_marker", "at least 1 character"),
        (model(settle_s=-1), "models.m.settle_s", "greater than or equal to 0; got -1"),
        (model(memory="estimated"), "models.m.memory", "'estimated' is no amount of memory"),
        (model(memory_factor=0), "models.m.memory_factor", "greater than 0; got 0"),
        (model(poll_interval_s=-1), "models.m.poll_interval_s", "greater than or equal to 0; got -1"),
        (model(warmup={"iterations": 0}), "models.m.warmup.iterations", "greater than or equal to 1; got 0"),
        (model(warmup={"enable": 0}), "models.m.warmup.enable", "did you mean enabled?"),
        (model(warmup={"batch_sizes": [0]}), "models.m.warmup.batch_sizes[0]", "greater than or equal to 1"),
        (model(storage_options="word"), "models.m.storage_options", "got a str"),
        ({"state_uri": "state"}, "state_uri", "'state' is neither an absolute path nor a URI; write the whole path"),
        ({"state_uri": "https://host/s"}, "state_uri", "where nothing can be kept; use a directory or a bucket"),
        ({"model_config_file": "models.config"}, "model_config_file", "is neither an absolute path nor a URI"),
        ({"model_config_file_poll_s": -1}, "model_config_file_poll_s", "greater than or equal to 0; got -1"),
        ({"stores": {"s3": "word"}}, "stores.s3", "got a str"),
        ({"stores": {"s3://": {}}}, "stores", "'s3://' is no scheme of URIs; write what stands before ://"),
        ({"stores": {"s3": {}, "s3a": {}}}, "stores", "s3 and s3a are one kind of store; put all options under one"),
        ({"load": {"quick_retries": -1}}, "load.quick_retries", "greater than or equal to 0; got -1"),
        ({"load": {"slow_retry_s": 0}}, "load.slow_retry_s", "greater than 0; got 0"),
        ({"poll_timeout_s": 0}, "poll_timeout_s", "greater than 0; got 0"),
        ({"cache_max_bytes": "much"}, "cache_max_bytes", "'much' is no amount of memory"),
        ({"cache_dir": "cache"}, "cache_dir", "'cache' is no absolute path; write the whole path"),
    ],
)
def test_names_the_place_and_the_fix(data: dict, place: str, words: str) -> None:
    """Each problem stands on a line of its own that begins with its place and says what to write."""
    with pytest.raises(ConfigError) as caught:
        parse(data)
    lines = [line for line in str(caught.value).splitlines()[1:] if line.startswith(f"  {place}")]
    assert any(words in line for line in lines), str(caught.value)


def test_tells_all_problems_at_once() -> None:
    """One block lists every problem, so that none has to be found by the next attempt."""
    with pytest.raises(ConfigError) as caught:
        parse({"models": [{"name": "a", "base_path": "x", "nam": 1}], "gateway": {"replicas": 0}}, "models.yaml")
    first, *lines = str(caught.value).splitlines()
    assert first == "models.yaml has 3 problems:"
    assert [line.split(":")[0] for line in lines] == ["  models[0].base_path", "  models[0].nam", "  gateway.replicas"]


def test_tells_of_all_models_at_once() -> None:
    """A model without settings hides nothing of the others; each is called by the name under which it stands."""
    with pytest.raises(ConfigError) as caught:
        parse({"models": {"empty": None, "b": {"base_path": "/b", "lables": {}, "warmup": {"iterations": 0}}}})
    assert [line.split(":")[0].strip() for line in str(caught.value).splitlines()[1:]] == [
        "models.empty",
        "models.b.warmup.iterations",
        "models.b.lables",
    ]


def test_is_an_invalid_argument_that_travels() -> None:
    """A ConfigError is an InvalidArgument of the core and survives the way between processes."""
    error = pickle.loads(pickle.dumps(ConfigError("no")))
    assert isinstance(error, InvalidArgument)
    assert (error.code, error.message) == (Code.INVALID_ARGUMENT, "no")


@pytest.mark.parametrize(
    ("args", "words"),
    [
        ({"model_base_pth": "/m"}, "did you mean model_base_path? The settings here are: model_name, model_base_path,"),
        ({"zzz": "1"}, "zzz: there is no such setting. The settings here are: model_name,"),
        ({"model_name": "m"}, "model_name needs a model to apply to; add model_base_path="),
        ({"replicas": "2"}, "replicas needs a model to apply to"),
        ({"models": {"m": "/m"}, "model_base_path": "/m"}, "describes a single model, and models lists several"),
        ({"rest_port": "1", "rest_api_port": "2"}, "rest_port and rest_api_port set the same thing; keep one"),
        ({"rest_port": "1", "gateway": {"rest_port": 2}}, "rest_port and gateway.rest_port set the same thing"),
        ({"rest_port": "1", "gateway": 2}, "gateway: expected a mapping of settings, got 2"),
        ({"rest_port": "http"}, "gateway.rest_port: Input should be a valid integer"),
        ({"rest_api_timeout_in_ms": "soon"}, "rest_api_timeout_in_ms: 'soon' is no number of milliseconds"),
        ({"model_base_path": "/m", "labels": "{a: "}, "labels: '{a: ' is neither a list nor a mapping in YAML"),
        ({"model_base_path": "m"}, "The application's configuration has 1 problem:"),
        ({"model_config_file": "/f", "model_base_path": "/m"}, "single model, and model_config_file lists several"),
        ({"model_config_file": "/f", "models": {"m": "/m"}}, "has both models and model_config_file, which takes"),
        ({"file_system_poll_wait_seconds": "-1"}, "file_system_poll_wait_seconds: -1 would never look for versions"),
        ({"load_retry_interval_micros": "nan"}, "load_retry_interval_micros: 'nan' is no number of microseconds"),
        ({"max_num_load_retries": "-1"}, "load.quick_retries: Input should be greater than or equal to 0"),
        ({"num_load_threads": "many"}, "num_load_threads: 'many' is no number"),
        ({"enable_model_warmup": "false"}, "enable_model_warmup needs a model to apply to"),
        ({"model_base_path": "/m", "enable_model_warmup": "maybe"}, "models[0].warmup.enabled: "),
        ({"model_base_path": "/m", "enable_batching": "maybe"}, "enable_batching: 'maybe' is neither true nor false"),
        (
            {"model_base_path": "/m", "warmup": "{enabled: true}", "enable_model_warmup": "false"},
            "enable_model_warmup and warmup.enabled set the same thing",
        ),
        ({"model_base_path": "/m", "session": "3", "tensorflow_session_parallelism": 1}, "session: expected a mapping"),
        (
            {"tensorflow_session_parallelism": "1", "tensorflow_intra_op_parallelism": "1", "model_base_path": "/m"},
            "tensorflow_session_parallelism and tensorflow_intra_op_parallelism set the same thing",
        ),
        ({"stores": {"s3": {"secret": "***"}}}, "stores.s3.secret: *** stands for a secret that is not shown"),
    ],
)
def test_explains_arguments(args: dict, words: str) -> None:
    """Arguments that are unknown, contradict each other or cannot be read are told by name."""
    with pytest.raises(ConfigError) as caught:
        from_args(args)
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"models: [", "is no valid YAML: "),
        (b"models: {a: /a, a: /b}", "'a' is written twice"),
        (b"- a", "must be a mapping of settings such as `models:`, got ['a']"),
        (b"text", "must be a mapping of settings"),
        (b"\xff\xfe\xfa", "cannot be read: "),
        (b"models: !!python/object:os.system {}", "is no valid YAML: "),
        (b"? {a: 1}\n: 2", "is no valid YAML: "),
        (b"models: {m: /m}\nmodel_config_file: /f", "has both models and model_config_file"),
        (b"gateway: {replicas: 0}", "has 1 problem:\n  gateway.replicas: "),
    ],
)
def test_explains_files(tmp_path: Path, content: bytes, words: str) -> None:
    """A file that is no configuration is told by its path and by what is wrong inside."""
    path = tmp_path / "models.yaml"
    path.write_bytes(content)
    with pytest.raises(ConfigError) as caught:
        load_yaml(path)
    assert str(path) in str(caught.value)
    assert words in str(caught.value)


def test_explains_files_that_are_not_there(tmp_path: Path) -> None:
    """A missing file and a directory in its place are told by their path."""
    with pytest.raises(ConfigError, match=r"There is no configuration file .*x\.yaml; check the path"):
        load_yaml(tmp_path / "x.yaml")
    with pytest.raises(ConfigError, match=r"cannot be read"):
        load_yaml(tmp_path)
