"""What `serving-app up` understands of its command line, and what it prints of the models' states."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from serving_app.cli import main, make_parser
from serving_app.cli.deployment import route_prefix
from serving_app.cli.progress import Reporter, is_settled
from serving_app.cli.up import read_config
from serving_app.config import ConfigError, ServingConfig, load_yaml, parse
from serving_app.core.errors import Code
from serving_app.core.states import State
from serving_app.core.views import AppView, Failure
from tests.cli.views import app, model, version


def read(*arguments: str) -> ServingConfig:
    return read_config(make_parser().parse_args(["up", *arguments]))


def test_models_can_be_named_on_the_command_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each --model is a model; its path becomes absolute, so that every node opens the same, and URIs stay."""
    monkeypatch.chdir(tmp_path)
    config = read("--model", "a=models/a", "--model", "b=/models/b=2", "--model", "c=s3://bucket/c")
    assert [(model.name, model.base_path) for model in config.models] == [
        ("a", str(tmp_path / "models/a")),
        ("b", "/models/b=2"),
        ("c", "s3://bucket/c"),
    ]


EVERYTHING = """
models:
  - name: a
    base_path: /models/a
    version_policy: {specific: [1, 3]}
    labels: {stable: 1}
    num_cpus: 0.5
    autoscaling: {max_replicas: 3}
    batching: {max_batch_size: 32}
  - name: b
    base_path: /models/b
    version_policy: all
gateway: {host: 0.0.0.0, rest_port: 9001, grpc_port: null}
poll_interval_s: 3
"""


def test_a_file_is_taken_as_it_is(tmp_path: Path) -> None:
    """Without other flags the configuration of the file is what is in force, every setting of it."""
    path = tmp_path / "config.yaml"
    path.write_text(EVERYTHING)
    assert read(str(path)) == load_yaml(str(path))


def test_flags_add_to_the_file_and_win_over_it(tmp_path: Path) -> None:
    """Models of the command line come after those of the file; listening flags replace its settings one by one."""
    path = tmp_path / "config.yaml"
    path.write_text(EVERYTHING)
    config = read(str(path), "--model", "c=/models/c", "--rest-port", "0", "--grpc-port", "8500")
    assert [model.name for model in config.models] == ["a", "b", "c"]
    assert (config.gateway.host, config.gateway.rest_port, config.gateway.grpc_port) == ("0.0.0.0", 0, 8500)
    assert read(str(path), "--rest-port", "off").gateway.rest_port is None


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "nothing to serve"),
        (("--model", "half_plus_two"), "write it as NAME=BASE_PATH"),
        (("--model", "half_plus_two="), "write it as NAME=BASE_PATH"),
        (("--model", "=/models"), "write it as NAME=BASE_PATH"),
        (("--model", "a=/a", "--model", "a=/b"), "multiple times"),
        (("--model", "a=/a", "--rest-port", "http"), "rest_port"),
        (("--model", "a=/a", "--rest-port", "70000"), "rest_port"),
        (("--model", "a=/a", "--rest-port", "9000", "--grpc-port", "9000"), "different ports"),
        (("/no/such/file.yaml",), "/no/such/file.yaml"),
    ],
)
def test_mistakes_are_named(
    arguments: tuple[str, ...], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """A wrong command line ends with code 1 and one sentence that says what is wrong; nothing is started."""
    with pytest.raises(ConfigError, match=message):
        read(*arguments)
    assert main(["up", *arguments]) == 1
    told = capsys.readouterr()
    assert told.err.startswith("serving-app: ")
    assert message in told.err
    assert "Traceback" not in told.err


CONFIG = parse({"models": {"m": "/models/m"}})
BROKEN = Failure(Code.NOT_FOUND, "no saved_model.pb")


def test_each_change_of_a_version_is_one_line() -> None:
    """What was told is not told again; a failure comes with its code and its text, as long as it is not tried again."""
    reporter = Reporter(CONFIG)
    for versions, lines in [
        ((), []),
        ((version(1, State.LOADING),), ["  m version 1: LOADING"]),
        ((version(1, State.LOADING),), []),
        (
            (version(2, State.FAILED, error=BROKEN), version(1)),
            ["  m version 1: AVAILABLE", "  m version 2: END: NOT_FOUND: no saved_model.pb"],
        ),
        ((version(2, State.FAILED, error=BROKEN, failures=2), version(1)), []),
        ((version(2, State.LOADING, error=BROKEN), version(1)), ["  m version 2: LOADING"]),
    ]:
        assert reporter.news(app(model("m", *versions, aspired=None)), 0.0) == lines


def test_what_answers_is_told_before_what_goes() -> None:
    """At a change of versions, in either direction, the line of the one that answers now comes first."""
    for new, old in ((2, 1), (1, 2)):
        versions = sorted([version(new), version(old, State.DRAINING)], key=lambda each: -each.servable.version)
        lines = Reporter(CONFIG).news(app(model("m", *versions)), 0.0)
        assert lines == [f"  m version {new}: AVAILABLE", f"  m version {old}: UNLOADING"]


def test_progress_is_told_now_and_then() -> None:
    """Of a load that takes long there is a line every few seconds, if it got on; of a quick one there is none."""
    reporter = Reporter(CONFIG)
    told = [
        reporter.news(app(model("m", version(1, State.LOADING, progress=f"fetched {at // 2} MB"))), float(at))
        for at in range(17)
    ]
    assert [(at, line) for at, lines in enumerate(told) for line in lines] == [
        (0, "  m version 1: LOADING"),
        (5, "  m version 1: fetched 2 MB"),
        (10, "  m version 1: fetched 5 MB"),
        (15, "  m version 1: fetched 7 MB"),
    ]


@pytest.mark.parametrize(
    ("seen", "said", "is_settled_then"),
    [
        pytest.param(app(), [], False, id="not known yet"),
        pytest.param(app(model("m", aspired=None)), [], False, id="not listed yet"),
        pytest.param(app(model("m", aspired=frozenset({1}))), [], False, id="versions found"),
        pytest.param(
            app(model("m", aspired=None, listing_failure=Failure(Code.NOT_FOUND, "no such path"))),
            ["  m: NOT_FOUND: no such path"],
            True,
            id="not listable",
        ),
        pytest.param(
            app(model("m")),
            ["  m: no version to serve under /models/m; versions are directories named by a number, such as 1"],
            True,
            id="nothing there",
        ),
        pytest.param(
            app(model("m", waiting={3: "no saved_model.pb yet"})),
            ["  m: version 3 waits: no saved_model.pb yet"],
            False,
            id="still being written",
        ),
        pytest.param(
            app(model("m", aspired=frozenset({1}), warnings=("1a is no version",))),
            ["  m: 1a is no version"],
            False,
            id="something odd",
        ),
        pytest.param(
            app(model("m", version(1)), model("other"), problems=("the state file was unreadable",)),
            [
                "  m version 1: AVAILABLE",
                "  other: no version to serve; versions are directories named by a number, such as 1",
                "  the state file was unreadable",
            ],
            True,
            id="a model that was added since",
        ),
        pytest.param(
            app(model("m", version(1)), model("other", aspired=frozenset(), configured=False)),
            ["  m version 1: AVAILABLE"],
            True,
            id="a model that was removed since",
        ),
    ],
)
def test_what_no_state_tells_is_told_once(seen: AppView, said: list[str], is_settled_then: bool) -> None:
    """A model without a version to load is told with its reason, and counts as settled; others have their chance."""
    reporter = Reporter(CONFIG)
    assert reporter.news(seen, 0.0) == said
    assert reporter.news(seen, 0.0) == []
    assert is_settled(CONFIG, seen) is is_settled_then


def test_it_is_announced_when_every_gateway_knows() -> None:
    """A version that is available counts only once each gateway routes by the table that names it."""
    ready = model("m", version(1))
    assert is_settled(CONFIG, app(ready))
    assert not is_settled(CONFIG, replace(app(ready), readers={"g": 6, "client": 7}))
    assert not is_settled(CONFIG, replace(app(ready), readers={}))


def test_an_upload_holds_up_the_announcement_only_for_a_while() -> None:
    """A model of which nothing is finished yet is waited for at first, and then counts as settled."""
    view = app(model("m", waiting={3: "no saved_model.pb yet"}))
    assert not is_settled(CONFIG, view)
    assert is_settled(CONFIG, view, is_late=True)


@pytest.mark.parametrize(
    ("name", "prefix"), [("default", "/"), ("trial", "/trial"), ("a b/{c}", "/a%20b%2F%7Bc%7D")]
)
def test_each_serving_app_hangs_at_a_place_of_its_own(name: str, prefix: str) -> None:
    """At Serve's HTTP door the usual name has the root, and any other one a path of its own."""
    assert route_prefix(name) == prefix


def test_an_early_interruption_is_no_crash(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Ctrl-C before anything is there to stop ends the command with a word, and without a stack."""

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("serving_app.cli.up.serve_until_stopped", interrupt)
    assert main(["up", "--model", f"m={tmp_path}"]) == 130
    assert capsys.readouterr().err == "serving-app: interrupted\n"


def test_a_ray_that_does_not_start_is_no_crash(tmp_path: Path) -> None:
    """Where Ray cannot be started, one message says why and what to do, without a stack of Ray's."""
    (tmp_path / "file").touch()
    done = subprocess.run(
        [sys.executable, "-m", "serving_app.cli", "up", "--model", f"m={tmp_path}", "--address", "local"],
        env={**os.environ, "RAY_TMPDIR": str(tmp_path / "file")}, capture_output=True, text=True,
    )
    assert done.returncode == 1
    assert "serving-app: Ray did not start on this machine: " in done.stderr
    assert "Traceback" not in done.stderr
