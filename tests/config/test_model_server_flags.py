"""How a command line of TensorFlow Serving's server is read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from serving_app.config.model_server_flags import FLAGS, OWN_FLAGS, Flag, parse_flags, usage

CPUS = 3

DEFAULTS = parse_flags((), CPUS).values


def test_all_flags_are_there() -> None:
    """All flags of TensorFlow Serving are known, each once, beside some of ours."""
    assert len(FLAGS) == 48
    assert len(DEFAULTS) == len(FLAGS) + len(OWN_FLAGS)


@pytest.mark.parametrize(
    ("argument", "name", "value"),
    [
        ("--port=1", "port", 1),
        ("--port=-1", "port", -1),
        ("--port= +1", "port", 1),
        ("--port=2147483647", "port", 2147483647),
        ("--load_retry_interval_micros=9223372036854775807", "load_retry_interval_micros", 9223372036854775807),
        ("--per_process_gpu_memory_fraction=.5", "per_process_gpu_memory_fraction", 0.5),
        ("--per_process_gpu_memory_fraction=5e-1", "per_process_gpu_memory_fraction", 0.5),
        ("--per_process_gpu_memory_fraction=1", "per_process_gpu_memory_fraction", 1.0),
        ("--enable_batching", "enable_batching", True),
        ("--enable_batching=true", "enable_batching", True),
        ("--enable_model_warmup=false", "enable_model_warmup", False),
        ("--model_name=", "model_name", ""),
        ("--model_name=a=b", "model_name", "a=b"),
        ("--model_name=--port=1", "model_name", "--port=1"),
    ],
)
def test_values(argument: str, name: str, value: Any) -> None:
    """A flag that is given has its value, and all others have their defaults."""
    line = parse_flags([argument], CPUS)
    assert (line.unknown, line.mistakes, line.needs_usage) == ((), (), False)
    assert line.values == {**DEFAULTS, name: value}


@pytest.mark.parametrize(
    "argument",
    [
        "--port=", "--port=a", "--port=1a", "--port=1 ", "--port=1.0", "--port=1_000", "--port=2147483648", "--port=٣",
        "--load_retry_interval_micros=9223372036854775808",
        "--per_process_gpu_memory_fraction=", "--per_process_gpu_memory_fraction=half",
        "--per_process_gpu_memory_fraction=0.5x", "--per_process_gpu_memory_fraction=nan",
        "--enable_batching=", "--enable_batching=1", "--enable_batching=yes", "--enable_batching=True",
        "--model_base_path=/m\udcff",
    ],
)
def test_values_that_make_no_sense(argument: str) -> None:
    """A value that is not of the flag's type ends the server with its usage text."""
    line = parse_flags([argument, "--model_name=m"], CPUS)
    name = argument.removeprefix("--").partition("=")[0]
    assert line.mistakes == (f"Couldn't interpret value {argument} for flag {name}.",)
    assert line.needs_usage
    assert line.values == {**DEFAULTS, "model_name": "m"}


@pytest.mark.parametrize(
    ("arguments", "unknown"),
    [
        (("--port", "1"), ("--port", "1")),
        (("-port=1",), ("-port=1",)),
        (("port=1",), ("port=1",)),
        (("--Port=1",), ("--Port=1",)),
        (("--nothing=1", "more"), ("--nothing=1", "more")),
        (("--enable_batching_",), ("--enable_batching_",)),
        (("--", "--port=1"), ("--", "--port=1")),
        (("",), ("",)),
    ],
)
def test_unknown_arguments(arguments: tuple[str, ...], unknown: tuple[str, ...]) -> None:
    """What is no flag in the one form that there is changes nothing, and the server goes on."""
    line = parse_flags(arguments, CPUS)
    assert (line.unknown, line.needs_usage) == (unknown, False)
    assert line.values == DEFAULTS


@pytest.mark.parametrize(
    ("arguments", "needs_usage"),
    [(("--help",), True), (("--port=1", "--help"), True), (("x", "--help"), False), (("--help", "x"), True)],
)
def test_help(arguments: tuple[str, ...], needs_usage: bool) -> None:
    """The first argument that is no flag may ask for the usage text."""
    assert parse_flags(arguments, CPUS).needs_usage is needs_usage


@pytest.mark.parametrize("flag", [*FLAGS, *OWN_FLAGS], ids=lambda flag: flag.name)
def test_every_flag_is_documented(flag: Flag) -> None:
    """The page about the server has a row for each flag."""
    page = (Path(__file__).parents[2] / "docs" / "model-server.md").read_text(encoding="utf-8")
    assert page.count(f"\n| `--{flag.name}` | ") == 1


def test_the_last_one_counts() -> None:
    """Of a flag that is given again the last value counts, so that a container's own flags can be overridden."""
    line = parse_flags(["--model_base_path=/a", "--port=1", "--model_base_path=/b"], CPUS)
    assert (line.values["model_base_path"], line.values["port"]) == ("/b", 1)


def test_usage() -> None:
    """The usage text has a line for each flag with its default, in the order of TensorFlow Serving."""
    lines = usage("server", CPUS).splitlines()
    assert lines[:3] == ["usage: server", "Flags:", f"\t--port=8500{' ' * 22}\tint32\t{FLAGS[0].help}"]
    given = [line.split("\t")[1].rstrip() for line in lines if line.startswith("\t")]
    assert [each.partition("=")[0].removeprefix("--") for each in given] == [*(each.name for each in FLAGS), *(
        each.name for each in OWN_FLAGS
    )]
    assert {
        '--model_name="default"', "--enable_batching=false", "--per_process_gpu_memory_fraction=0.000000",
        "--rest_api_num_threads=12",
    } <= set(given)
