"""What `serving-app model-server` prints and how it ends before anything of Ray starts, and what it logs later."""

from __future__ import annotations

import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from serving_app import __version__
from serving_app.cli import main
from serving_app.cli.model_server import FAILED, announcements
from serving_app.cli.server_log import Line, ServerLog
from serving_app.core.errors import Code
from serving_app.core.states import State
from serving_app.core.views import AppView, Failure
from tests.cli.views import app, model, version


def run(*arguments: str) -> int:
    return main(["model-server", *arguments])


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    """`--version` prints the two lines that TensorFlow Serving prints, and does nothing else."""
    assert run("--version", "--model_config_file=missing") == 0
    assert re.fullmatch(
        rf"TensorFlow ModelServer: {re.escape(__version__)}\nTensorFlow Library: [0-9.]+\n", capsys.readouterr().out
    )


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [(("--help",), ""), (("--port=x",), "Couldn't interpret value --port=x for flag port.")],
)
def test_usage(arguments: tuple[str, ...], complaint: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Who asks for help, or gives a flag what it cannot be, gets the usage text and the status of a failure."""
    assert run(*arguments) == FAILED
    out, err = capsys.readouterr()
    assert out.startswith("usage: ")
    assert "\t--rest_api_port=0" in out
    assert complaint in err


def test_unknown_arguments(capsys: pytest.CaptureFixture[str]) -> None:
    """An argument that is no flag is named, before the usage text, and the start goes on."""
    assert run("--port", "1", "--prot=2") == FAILED
    out = capsys.readouterr().out
    assert out.startswith("unknown argument: --port\nusage: ")
    assert out.endswith(
        "Failed to start server. Error: INVALID_ARGUMENT: Both server_options.model_base_path and "
        "server_options.model_config_file are empty!\n"
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--port=0",), "INVALID_ARGUMENT: At least one of server_options.grpc_port or server_options.grpc_socket_path "
         "must be set."),
        (("--model_base_path=here",), "INVALID_ARGUMENT: Expected model default to have an absolute path or URI; got "
         "base_path()=here"),
        (("--model_config_file=/no/such/file",), "NOT_FOUND: "),
    ],
)
def test_what_cannot_be_served(
    arguments: tuple[str, ...], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """What ends the start is told on standard output, with its code, and by the exit status."""
    assert run(*arguments) == FAILED
    assert capsys.readouterr().out.startswith(f"Failed to start server. Error: {message}")


def test_a_file_that_is_no_configuration(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Of a file that cannot be parsed standard error has protobuf's own line, which scripts look for."""
    file = tmp_path / "models.config"
    file.write_text("model_config_list {\n  confg {}\n}")
    assert run(f"--model_config_file={file}") == FAILED
    out, err = capsys.readouterr()
    assert out.startswith(f"Failed to start server. Error: INVALID_ARGUMENT: Invalid protobuf file: '{file}'")
    assert err.startswith("Error parsing text-format tensorflow.serving.ModelServerConfig: 2:3: ")


def test_a_port_that_is_taken(capsys: pytest.CaptureFixture[str]) -> None:
    """Without its gRPC port a server does not start, and says so at once."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert run("--model_base_path=/m", f"--port={port}", "--host=127.0.0.1") == FAILED
    assert capsys.readouterr().out == (
        f"Failed to start server. Error: INVALID_ARGUMENT: Failed to BuildAndStart gRPC server: 127.0.0.1:{port} is in "
        "use; stop what listens there, or choose another --port\n"
    )


def test_arguments_that_are_no_text() -> None:
    """Bytes that are no UTF-8 are shown by their numbers, and end the start as any value that cannot be read."""
    command = [sys.executable, "-m", "serving_app.cli", "model-server", b"--model_name=m\xff", b"\xfe"]
    ended = subprocess.run(command, check=False, capture_output=True)
    assert ended.returncode == FAILED
    assert rb"Couldn't interpret value --model_name=m\udcff for flag model_name." in ended.stderr
    assert ended.stdout.startswith(b"usage: ")


def test_logs_that_nobody_takes() -> None:
    """A server goes on where its log cannot be written: the reader of a pipe has gone, or the disk is full."""
    program = "from serving_app.cli.model_server import log\nlog('I', 'one'); log('I', 'two'); print('serves on')"
    with open("/dev/full", "w") as full:
        ended = subprocess.run([sys.executable, "-c", program], check=False, stderr=full, stdout=subprocess.PIPE)
    assert ended.stdout == b"serves on\n"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_ends_as_signalled(number: signal.Signals) -> None:
    """Whoever started the server sees the signal that ended it, as of a process that does not listen to signals."""
    program = (
        "import signal; from serving_app.cli.model_server import _Stop\n"
        f"stop = _Stop(); stop.listen(); signal.raise_signal({int(number)})\n"
        "assert stop.wait(0); stop.end()"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == -number


def test_announcements() -> None:
    """The lines that scripts wait for name each place where the server listens; REST's always says localhost."""
    addresses = {"REST": "0.0.0.0:8501", "gRPC": "0.0.0.0:8500", "gRPC (UNIX socket)": "unix:/run/serving"}
    assert announcements(addresses) == [
        "Running gRPC ModelServer at 0.0.0.0:8500 ...",
        "Running gRPC ModelServer at UNIX socket /run/serving ...",
        "Exporting HTTP/REST API at:localhost:8501 ...",
    ]
    assert announcements({"gRPC": "[::]:8500"}) == ["Running gRPC ModelServer at [::]:8500 ..."]


def news(*views: AppView) -> list[Line]:
    """What is logged of these views, one after the other."""
    log = ServerLog()
    return [line for view in views for line in log.news(view)]


def test_the_life_of_versions() -> None:
    """Each step of a version is one line in TensorFlow Serving's words, told once; what comes is told before what goes.
    """
    steps = [
        app(model("m", version(1, State.LOADING))),
        app(model("m", version(1))),
        app(model("m", version(1))),
        app(model("m", version(2, State.LOADING), version(1))),
        app(model("m", version(2), version(1, State.DRAINING))),
        app(model("m", version(2), version(1, State.UNLOADING))),
        app(model("m", version(2), version(1, State.ENDED))),
    ]
    assert news(*steps) == [
        ("I", "Loading servable version {name: m version: 1}"),
        ("I", "Successfully loaded servable version {name: m version: 1}"),
        ("I", "Loading servable version {name: m version: 2}"),
        ("I", "Successfully loaded servable version {name: m version: 2}"),
        ("I", "Quiescing servable version {name: m version: 1}"),
        ("I", "Unloading servable version {name: m version: 1}"),
        ("I", "Done unloading servable version {name: m version: 1}"),
    ]


FAILURE = Failure(Code.NOT_FOUND, "no saved_model.pb")


def test_loads_that_fail() -> None:
    """Each failed try of a load is told with its error, also when it is the same as before."""
    views = [
        app(model("m", version(1, state, failures=failures, error=FAILURE if failures else None)))
        for state, failures in ((State.LOADING, 0), (State.CLEARING, 1), (State.FAILED, 1), (State.LOADING, 1),
                                (State.FAILED, 2))
    ]
    failed = ("E", "Loading servable: {name: m version: 1} failed: NOT_FOUND: no saved_model.pb")
    loading = ("I", "Loading servable version {name: m version: 1}")
    assert news(*views) == [loading, failed, loading, failed]


@pytest.mark.parametrize(
    ("more", "line"),
    [
        (
            {"warnings": ("No versions of servable m found under base path /models/m",)},
            ("W", "m: No versions of servable m found under base path /models/m"),
        ),
        (
            {"aspired": None, "listing_failure": Failure(Code.NOT_FOUND, "Could not find base path /models/m")},
            ("E", "FileSystemStoragePathSource encountered a filesystem access error: Could not find base path "
             "/models/m"),
        ),
        ({"waiting": {3: "no saved_model.pb yet"}}, ("W", "{name: m version: 3} waits: no saved_model.pb yet")),
    ],
)
def test_what_keeps_a_model_from_being_loaded(more: dict, line: Line) -> None:
    """What is wrong with a base path is told once, for as long as it is the same, and again when it comes back."""
    stuck, fine = app(model("m", **more)), app(model("m", version(1)))
    loaded = ("I", "Successfully loaded servable version {name: m version: 1}")
    assert news(stuck, stuck, fine, stuck) == [line, loaded, line]
