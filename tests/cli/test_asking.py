"""The commands that ask a serving app: what they print, for people and for programs, and how they end."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from serving_app.cli import asking, main
from serving_app.config import load_yaml
from serving_app.core.batching import Batching
from serving_app.core.errors import Code
from serving_app.core.placement import Placement
from serving_app.core.states import State
from serving_app.core.traffic import Mirror, Rule, Tolerance, Traffic
from serving_app.core.views import AppView, Failure
from tests.cli.views import BUSY, GONE, LOST, NOW, app, model, serve, version

FINE = app(model("m", version(3, State.LOADING), version(2), labels={"stable": 2}))


@pytest.fixture(autouse=True)
def here() -> Iterator[None]:
    """A terminal of 100 columns in Greenwich."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COLUMNS", "100")
        patch.setenv("RAY_AUTH_MODE", "token")  # said, so that no command says it for the tests that follow
        patch.setenv("TZ", "UTC")
        time.tzset()
        yield
    time.tzset()


def said(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """What a command prints; it may not complain."""
    main(arguments)
    captured = capsys.readouterr()
    assert captured.err == ""
    return captured.out


STATUS = """\
default: 1 of 2 models answer
gateway: REST at 127.0.0.1:8501, gRPC at 127.0.0.1:8500

MODEL  READY  NEWS
gone   none   not configured any more
lost   none   NOT_FOUND: Could not find base path
m      2      4 LOADING for 1 min: fetched 120 of 480 MB
              3 END (failed) for 1 min: NOT_FOUND: no saved_model.pb (2 attempts, next in 20 s)
              1 UNLOADING (draining) for 1 min
              5 waiting: no saved_model.pb yet
              0002 is 2 as well; one is taken
              label canary names version 4, which does not answer

problem: the state file was unreadable
"""

VERSIONS = """\
VERSION  STATE                 SINCE                SIZE    LABELS  MORE
5        waiting                                                    no saved_model.pb yet
4        LOADING               22:12:20, 1 min ago          canary  fetched 120 of 480 MB
                                                                    /models/m/4
3        END (failed)          22:12:20, 1 min ago  1.2 MB          NOT_FOUND: no saved_model.pb (2
                                                                    attempts, next in 20 s)
                                                                    /models/m/3
2        AVAILABLE             22:12:20, 1 min ago          stable  /models/m/2
1        UNLOADING (draining)  22:12:20, 1 min ago                  /models/m/1
0002 is 2 as well; one is taken
"""


def test_status_tells_all_that_is_not_just_serving(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each model has its line, and below it what comes, goes, waits, failed or is odd; problems come last."""
    serve(monkeypatch, app(BUSY, LOST, GONE, problems=("the state file was unreadable",)))
    assert said(capsys, "status") == STATUS


def test_what_is_colocated_is_told(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Versions that live in the gateways are told apart from those with replicas of their own."""
    here = version(2, State.READY, placement=Placement.COLOCATED)
    serve(monkeypatch, app(model("m", here), model("n", version(1, State.READY, placement=Placement.DEDICATED))))
    assert "m      2 (colocated)\nn      1" in said(capsys, "status")
    assert "colocated: in every gateway" in said(capsys, "versions", "m")
    assert "colocated" not in said(capsys, "versions", "n")


def test_limits_in_force_are_told(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Of a version that is batched it is told by which limits, also where a file of its own says so."""
    limits = Batching(max_batch_size=8, pad_variable_length_inputs=True)
    serve(monkeypatch, app(model("m", version(2, batching=limits), version(1))))
    lines = " ".join(said(capsys, "versions", "m").split())
    assert lines.count("batched: max_batch_size 8, pad_variable_length_inputs True") == 1
    new, old = json.loads(said(capsys, "versions", "m", "--json"))["versions"]
    assert (new["batching"]["max_batch_size"], new["batching"]["batch_timeout_micros"]) == (8, 0)
    assert old["batching"] is None


def test_versions_tell_why(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Each version has its state, since when, its size, its labels, and what led there; waiting ones are among them."""
    serve(monkeypatch, app(BUSY))
    assert said(capsys, "versions", "m") == VERSIONS


def test_models_tell_what_should_be_and_what_is(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each model has its policy and base path from the configuration in force, beside what is aspired and ready."""
    serve(monkeypatch, app(model("m", version(2), labels={"stable": 2, "canary": 4}), GONE))
    lines = said(capsys, "models").splitlines()
    assert [line.split() for line in lines] == [
        ["MODEL", "POLICY", "ASPIRED", "READY", "LABELS", "BASE", "PATH,", "NEWS"],
        ["gone", "none", "none", "not", "configured", "any", "more"],
        ["m", "latest", "2", "2", "2", "canary=4", "(pending),", "stable=2", "/models/m"],
    ]


def test_gateways_of_one_node_are_told_together(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Gateways that share their addresses are counted; without any, that is said."""
    serve(monkeypatch, app(gateways={"a": {"REST": "h:1"}, "b": {"REST": "h:1"}, "c": {"REST": "i:1"}}))
    assert "2 gateways: REST at h:1\ngateway: REST at i:1\n" in said(capsys, "status")
    serve(monkeypatch, app(gateways={}))
    assert "no gateway is up" in said(capsys, "status")


def test_labels_are_active_or_pending(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """A label is active when its version answers, and pending until then."""
    serve(monkeypatch, app(BUSY))
    assert said(capsys, "labels", "m") == "LABEL   VERSION  STATE\ncanary  4        pending\nstable  2        active\n"


SHARED = model(
    "m", version(2), version(1, State.DRAINING),
    traffic={
        "": Traffic({1: 90.0, 2: 10.0}, "x-user"),
        "stable": Traffic(
            {2: 100.0}, rules=(Rule("x-team", 1, frozenset({"ads", "search"})),),
            mirror=Mirror(1, 20.0, {"y": Tolerance(0.5)}),
        ),
    },
)


def test_traffic_is_shown(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """A line for each rule and share, by target, and which of those versions answer."""
    serve(monkeypatch, app(SHARED))
    assert said(capsys, "traffic", "m") == (
        "TARGET   REQUESTS                     VERSION  STATE\n"
        "default  90 % by x-user               1        not ready: others get them\n"
        "default  10 % by x-user               2        ready\n"
        "stable   x-team is 'ads' or 'search'  1        not ready: others get them\n"
        "stable   100 %                        2        ready\n"
        "stable   copies of 20 %               1        not ready: nothing is copied\n"
    )
    assert json.loads(said(capsys, "traffic", "m", "--json")) == {
        "model": "m",
        "traffic": [
            {
                "target": "default", "sticky": "x-user", "audience": [],
                "weights": [{"version": 1, "weight": 90.0}, {"version": 2, "weight": 10.0}], "mirror": None,
            },
            {
                "target": "stable", "sticky": None, "weights": [{"version": 2, "weight": 100.0}],
                "audience": [{"attribute": "x-team", "one_of": ["ads", "search"], "matches": None, "version": 1}],
                "mirror": {
                    "version": 1, "share": 20.0, "tolerances": {"y": {"absolute": 0.5, "relative": 0.001}},
                },
            },
        ],
    }


def test_traffic_is_set_and_deleted(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """The controller is asked for what the arguments say, and what is in force then is shown."""
    controller = serve(monkeypatch, FINE)
    rule = "{attribute: x-team, equals: ads, version: 2}"
    arguments = ("default", "1=90", "2=10", "--sticky", "x-user", "--audience", rule)
    assert said(capsys, "traffic", "m", "set", *arguments) == "the requests for m are not shared\n"
    said(capsys, "traffic", "m", "delete", "default")
    said(capsys, "traffic", "m", "set", "stable", "2=100", "--mirror", "3=20", "--tolerances", "{y: {relative: 0.01}}")
    audience = [{"attribute": "x-team", "equals": "ads", "version": 2}]
    traffic = {"weights": {1: 90.0, 2: 10.0}, "sticky": "x-user", "audience": audience}
    mirror = {"version": 3, "share": 20.0, "tolerances": {"y": {"relative": 0.01}}}
    copied = {"weights": {2: 100.0}, "sticky": None, "audience": [], "mirror": mirror}
    assert controller.labels == [("m", "default", traffic), ("m", "default"), ("m", "stable", copied)]


def test_labels_are_set_and_deleted(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Each edit of a label is one order, and one line says that it is done; the flags may come at the end."""
    controller = serve(monkeypatch, FINE)
    assert said(capsys, "labels", "m", "set", "stable", "3", "--name", "trial") == "stable of m is version 3 now\n"
    assert said(capsys, "labels", "--name", "trial", "m", "delete", "stable") == "m has no stable any more\n"
    assert controller.labels == [("m", "stable", 3), ("m", "stable")]


@pytest.mark.parametrize(
    ("arguments", "view", "code"),
    [
        (("status",), FINE, 0),
        (("status",), app(BUSY), 0),
        (("status",), app(BUSY, LOST), 3),
        (("status",), app(GONE), 0),
        (("status",), app(gateways={}), 3),
        (("status",), app(problems=("the state file was unreadable",)), 3),
        (("status", "--json"), app(LOST), 3),
        (("models",), FINE, 0),
        (("models",), app(LOST), 3),
        (("versions", "m"), FINE, 0),
        (("versions", "lost"), app(LOST), 3),
        (("versions", "nothing"), FINE, 1),
        (("labels", "m"), app(BUSY), 0),
        (("labels", "nothing"), FINE, 1),
        (("traffic", "m"), FINE, 0),
        (("traffic", "nothing"), FINE, 1),
        (("traffic", "m", "set", "default", "2=100", "--tolerances", "{y: {}}"), FINE, 1),
        (("traffic", "m", "set", "default", "2=50", "2=100"), FINE, 1),
        (("history",), FINE, 0),
        (("history", "--follow"), FINE, 0),
        (("status", "--watch"), app(LOST), 0),
        (("config", "show"), FINE, 0),
    ],
)
def test_exit_codes_tell_what_is_healthy(
    monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], view: AppView, code: int
) -> None:
    """A command ends with 3 where what it was asked about is not healthy, with 1 where that is not there."""
    serve(monkeypatch, view)
    assert main(arguments) == code


@pytest.mark.parametrize(
    "arguments",
    [
        ("labels", "m", "set", "stable"),
        ("labels", "m", "set", "stable", "two"),
        ("labels", "m", "move"),
        ("traffic", "m", "set", "default"),
        ("traffic", "m", "set", "default", "1"),
        ("traffic", "m", "set", "default", "one=100"),
        ("traffic", "m", "set", "default", "1=100", "--audience", "x-team=ads"),
        ("traffic", "m", "set", "default", "1=100", "--audience", "{"),
        ("traffic", "m", "set", "default", "1=100", "--audience", "{attribute: a, equals: x, equals: y, version: 1}"),
        ("traffic", "m", "set", "default", "1=100", "--mirror", "2"),
        ("history", "--version", "2"),
        ("history", "--limit", "0"),
        ("config",),
        ("config", "show", "--form", "json"),
        ("versions",),
    ],
)
def test_a_command_line_that_makes_no_sense(arguments: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    """Nobody is asked, and the usage is printed."""
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    assert capsys.readouterr().err.startswith("usage: serving-app ")


def test_an_unknown_model_is_told_with_those_that_are_known(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A name that was mistyped can be corrected from the message."""
    serve(monkeypatch, app(BUSY, LOST))
    assert main(["versions", "n"]) == 1
    assert capsys.readouterr().err == (
        "serving-app: the serving app 'default' knows no model 'n'; the models are lost, m\n"
    )


VERSION_KEYS = {
    "version", "state", "phase", "since", "aspired", "labels", "path", "size", "app", "placement",
    "batching", "progress",
    "failures", "error", "retry_at",
}  # fmt: skip
MODEL_KEYS = {
    "model", "healthy", "configured", "aspired", "ready", "waiting", "labels", "traffic", "listing_failure", "warnings",
    "versions",
}  # fmt: skip
APP_KEYS = {"app", "healthy", "revision", "gateways", "models", "problems"}


def test_keys_of_documents_stay(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """What programs read keeps its keys, and each of them is documented."""
    serve(monkeypatch, app(BUSY))
    document: dict[str, Any] = json.loads(said(capsys, "status", "--json"))
    assert set(document) == APP_KEYS
    assert set(document["models"][0]) == MODEL_KEYS
    assert set(document["models"][0]["versions"][0]) == VERSION_KEYS
    assert json.loads(said(capsys, "versions", "m", "--json")) == document["models"][0]
    (listed,) = json.loads(said(capsys, "models", "--json"))["models"]
    assert listed == {**document["models"][0], "base_path": "/models/m", "version_policy": {"latest": 2}}
    page = (Path(__file__).parents[2] / "docs" / "cli.md").read_text(encoding="utf-8")
    assert [key for key in APP_KEYS | MODEL_KEYS | VERSION_KEYS | set(listed) if f"`{key}`" not in page] == []


def test_values_of_documents(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Times are ISO 8601 in UTC, errors a code and a message, what is not known null."""
    serve(monkeypatch, app(BUSY))
    failed = json.loads(said(capsys, "versions", "m", "--json"))["versions"][1]
    assert (failed["state"], failed["phase"], failed["failures"]) == ("END", "failed", 2)
    assert (failed["since"], failed["retry_at"]) == ("2023-11-14T22:12:20.000Z", "2023-11-14T22:13:40.000Z")
    assert failed["error"] == {"code": "NOT_FOUND", "message": "no saved_model.pb"}
    assert failed["progress"] is None
    assert json.loads(said(capsys, "labels", "m", "--json")) == {
        "model": "m",
        "labels": [
            {"label": "canary", "version": 4, "active": False},
            {"label": "stable", "version": 2, "active": True},
        ],
    }


def test_history(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Each happening is one line, the newest last; for programs one JSON object each, also while it goes on."""
    serve(monkeypatch, FINE)
    assert said(capsys, "history") == "22:13:20      just now  m@2: loaded\n22:13:20      just now  m: listed\n"
    assert said(capsys, "history", "m", "--version", "2") == "22:13:20      just now  m@2: loaded\n"
    assert said(capsys, "history", "m", "--version", "9") == "nothing has happened yet\n"
    assert said(capsys, "history", "m", "--version", "9", "--json") == ""
    assert said(capsys, "history", "--limit", "1", "--json", "--follow") == (
        '{"at": "2023-11-14T22:13:20.000Z", "model": "m", "version": null, "what": "listed"}\n'
    )


def test_history_of_a_model_that_there_is_not(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A wrong name is told from a model to which nothing happened, also to programs."""
    serve(monkeypatch, FINE)
    for more in ([], ["--json"]):
        assert main(["history", "other", *more]) == 1
        said = "serving-app: the serving app 'default' knows no model 'other'; the models are m\n"
        assert capsys.readouterr() == ("", said)


def test_only_attempts_that_were_made_are_told(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A version that no node can hold was never tried; the reason stands alone."""
    unfit = version(1, State.UNFIT, error=Failure(Code.RESOURCE_EXHAUSTED, "no node has that"))
    serve(monkeypatch, app(model("m", unfit)))
    assert said(capsys, "status").rstrip().endswith("1 END for 1 min: RESOURCE_EXHAUSTED: no node has that")


def test_watching_prints_at_every_change(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Where nothing is redrawn, each state is printed once, however old it gets; for programs in one line each."""
    serve(monkeypatch, FINE).changes = 3
    ticks = itertools.count(NOW)
    monkeypatch.setattr("time.time", lambda: next(ticks))
    shown = said(capsys, "status", "--watch")
    assert shown.startswith("default: 1 of 1 models answer\n")
    assert shown.count("default: ") == 1
    serve(monkeypatch, FINE)
    (line,) = said(capsys, "status", "--watch", "--json").splitlines()
    assert json.loads(line)["healthy"] is True


def test_a_configuration_is_applied_after_its_plan(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The plan comes first, then what was done; a dry run and an empty plan do nothing; a refusal ends with 1."""
    controller = serve(monkeypatch, FINE)
    path = tmp_path / "a.yaml"
    plan = "~ model m labels.stable: 1 -> 2 (at once)\n"
    path.write_text("models: {}")
    assert said(capsys, "config", "apply", str(path), "--dry-run") == plan
    assert controller.applied == []
    assert said(capsys, "config", "apply", str(path)) == f"{plan}applied\n"
    assert controller.applied == ["models: {}"]
    path.write_text("same")
    assert said(capsys, "config", "apply", str(path)) == "nothing changes\n"
    path.write_text("refused")
    assert main(["config", "apply", str(path)]) == 1
    assert capsys.readouterr().err.startswith(f"serving-app: {path} changes gateway.host")
    assert controller.applied == ["models: {}"]


def test_a_configuration_is_shown_in_either_form(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The text is the controller's; secrets are shown only when that is asked for."""
    serve(monkeypatch, FINE)
    assert said(capsys, "config", "show").startswith("models: ")
    assert said(capsys, "config", "show", "--form", "tfs") == "False\n"
    assert said(capsys, "config", "show", "--form", "tfs", "--secrets") == "True\n"


@pytest.mark.parametrize(
    ("text", "code", "told"),
    [
        ("models: {m: /models/m}", 0, "is fine: 1 model"),
        ("", 0, "is fine: 0 models"),
        ('model_config_list { config { name: "m" base_path: "/m" model_platform: "tensorflow" } }', 0, "fine: 1 model"),
        ("models: {m: models/m}\npoll_intervals: 3", 1, "has 2 problems:\n  models.m.base_path: Expected model m"),
        ("model_config_list { config { name: 3 } }", 1, "config', line 1, column 36"),
        ("models: [", 1, "no valid YAML"),
    ],
)
def test_a_file_is_checked_without_a_cluster(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str, code: int, told: str
) -> None:
    """Either form is fine, or wrong with every place that is; nobody is asked."""
    path = tmp_path / "config"
    path.write_text(text)
    assert main(["config", "check", str(path)]) == code
    captured = capsys.readouterr()
    assert told in captured.out + captured.err


@pytest.mark.parametrize("command", ["check", "apply"])
def test_a_file_that_is_not_there(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A path that leads nowhere is told before anybody is asked."""
    assert main(["config", command, "/no/such/file.yaml"]) == 1
    assert capsys.readouterr().err == "serving-app: There is no file /no/such/file.yaml; check the path\n"


def test_a_configuration_may_come_from_standard_input(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """`-` stands for standard input."""
    path = tmp_path / "config.yaml"
    path.write_text("models: {m: /models/m}")
    with path.open() as stdin:
        monkeypatch.setattr(sys, "stdin", stdin)
        assert said(capsys, "config", "check", "-") == "- is fine: 1 model\n"


@pytest.mark.parametrize(
    "command", [("status",), ("models",), ("versions", "m"), ("labels", "m"), ("traffic", "m"), ("history",)]
)
def test_without_a_cluster(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], command: tuple[str, ...]
) -> None:
    """Where nobody answers, a command ends with 4 and says how to start something."""
    assert main([*command, "--address", "127.0.0.1:1"]) == 4
    error = capsys.readouterr().err
    assert error.startswith("serving-app: no Ray cluster answers at 127.0.0.1:1; start one with `serving-app up`")


def test_what_needs_no_cluster_needs_no_ray(tmp_path: Path) -> None:
    """Checking and converting files start quickly: they never import Ray, nor what serves."""
    path = tmp_path / "models.config"
    path.write_text('model_config_list { config { name: "m" base_path: "/m" model_platform: "tensorflow" } }')
    program = (
        "import sys; from serving_app.cli import main; path = sys.argv[1];"
        "print(main(['config', 'check', path]), main(['config', 'convert', path]), 'ray' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program, str(path)], capture_output=True, text=True)
    assert done.stdout == f"{path} is fine: 1 model\nmodels:\n- name: m\n  base_path: /m\n0 0 False\n"
    assert done.stderr == ""


def test_a_configuration_is_converted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """All files of TensorFlow Serving go in; what comes out is a configuration, and notes about the rest."""
    texts = {
        "models": "model_config_list { config { name: 'm' base_path: '/m' model_type: 1 logging_config {} } }",
        "batching": "max_batch_size { value: 8 }",
        "monitoring": 'prometheus_config { enable: true path: "/metrics" }',
    }
    for name, text in texts.items():
        (tmp_path / name).write_text(text)
    models, batching, monitoring, out = (str(tmp_path / name) for name in (*texts, "out.yaml"))
    flags = ["--batching-parameters-file", batching, "--monitoring-config-file", monitoring]
    assert main(["config", "convert", models, *flags, "-o", out]) == 0
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("serving-app: model m: logging_config is left out: ")
    whole = load_yaml(out)
    assert whole.gateway.metrics_path == "/metrics"
    (converted,) = whole.models
    assert converted.batching is not None
    assert (converted.name, converted.batching.max_batch_size) == ("m", 8)
    assert main(["config", "convert", models, "-o", str(tmp_path / "no" / "out.yaml")]) == 1
    assert "out.yaml cannot be written: " in capsys.readouterr().err


def test_only_the_command_itself_prints(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """What Ray prints to standard output meanwhile, such as news of its cluster, does not get between the JSON."""
    controller = serve(monkeypatch, FINE)
    ask = controller.view

    async def view() -> AppView:
        print("(raylet) Task Controller.view failed.")
        return await ask()

    monkeypatch.setattr(controller, "view", view)
    assert json.loads(said(capsys, "status", "--json"))["app"] == "default"


def test_a_terminal_is_redrawn(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Before a person the page is drawn in the place of the last one, also when only time went by."""
    serve(monkeypatch, FINE).changes = 2
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    shown = said(capsys, "status", "--watch")
    assert shown.split("\x1b[H\x1b[2J\x1b[3J")[1:] == [said(capsys, "status")] * 2


STAGES = """\
m, REST: 20 requests, 0.400 ms each
STAGE           MEAN   SHARE
decode      0.100 ms   25.0%
hop         0.200 ms   50.0%
run         0.100 ms   25.0%
"""

PROFILE = f"""\
{STAGES}
PROCESS  PID  CPU TIME         HOST
gateway  10   0.75 s of 2.0 s  one
a:m@1    30   0.25 s of 2.0 s  two

   OWN   TOTAL  FUNCTION
 50.0%   75.0%  m.serve
 25.0%   25.0%  m.read
 25.0%   25.0%  m.run

gateway:2 gave no profile: it has ended, or is too busy to answer.
"""


def test_profile_tells_where_the_time_goes(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """Stages by model and entrypoint, CPU time by process and by function; who is missing is named, and counts."""
    controller = serve(monkeypatch, FINE)
    assert said(capsys, "profile", "--seconds", "2", "--model", "m") == PROFILE
    assert controller.profiled == [2.0]
    assert main(["profile"]) == asking.UNHEALTHY
    capsys.readouterr()
    told = json.loads(said(capsys, "profile", "--json"))
    assert told["requests"][0]["stages"]["hop"] == {"mean_s": 0.0002, "share": 0.5}
    assert [each["name"] for each in told["processes"]] == ["gateway", "a:m@1"]
    assert (told["silent"], told["functions"][0]["own"]) == (["gateway:2"], 0.5)
    for name, first in (("out.txt", "a:m@1;run;m.run 250000"), ("out.json", '{"$schema"')):
        said(capsys, "profile", "--output", str(tmp_path / name))
        assert (tmp_path / name).read_text(encoding="utf-8").startswith(first)


def test_profile_of_stages_alone(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Then nobody samples anything; an app without requests says so."""
    controller = serve(monkeypatch, FINE)
    assert said(capsys, "profile", "--stages-only", "--seconds", "0.001") == STAGES
    assert controller.profiled == []
    monkeypatch.setattr(controller, "growth", 0)
    assert said(capsys, "profile", "--stages-only", "--seconds", "0.001") == "No request was answered meanwhile.\n"


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (("--seconds", "0"), "--seconds must be more than 0 and at most 300, not 0"),
        (("--seconds", "nan"), "--seconds must be more than 0 and at most 300, not nan"),
        (("--stages-only", "--output", "x"), "there are no stacks to write"),
        (("--output", "/nowhere/x"), "/nowhere/x cannot be written: No such file or directory"),
        (("--model", "other"), "there is no model 'other'; `serving-app models` lists"),
    ],
)
def test_profiles_that_cannot_be(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], error: str
) -> None:
    """What cannot be done is said before anything is done."""
    controller = serve(monkeypatch, FINE)
    assert main(["profile", *arguments]) == asking.REFUSED
    assert error in capsys.readouterr().err
    assert controller.profiled == []
