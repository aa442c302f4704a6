"""`serving-app config`: look at the configuration in force, check one, apply one, convert one of TensorFlow Serving."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from serving_app.cli import asking
from serving_app.client.control import Control
from serving_app.config import ConfigError, ServingConfig, convert, read_any, replace_models, to_models, to_yaml


def add_to(commands: Any) -> None:
    """Add this command to the command line."""
    parser = commands.add_parser("config", help="show, check, apply and convert configurations", description=__doc__)
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION", help="what to do")
    _add_show(actions)
    _add_check(actions)
    _add_apply(actions)
    _add_convert(actions)


def _add_show(actions: Any) -> None:
    text = "Print the configuration in force, with every setting."
    parser = actions.add_parser("show", help="print the configuration in force", description=text)
    parser.add_argument(
        "--form", choices=("yaml", "tfs"), default="yaml",
        help="our YAML, or TensorFlow Serving's text form, which holds the models alone (default: yaml)",
    )
    parser.add_argument("--secrets", action="store_true", help="print credentials, too, instead of ***")
    asking.add_app(parser)
    parser.set_defaults(run=_run_show)


def _add_check(actions: Any) -> None:
    text = "Say whether a file is a configuration, and if not, what is wrong where. Needs no cluster."
    parser = actions.add_parser("check", help="say what is wrong with a file", description=text)
    _add_file(parser)
    parser.set_defaults(run=_run_check)


def _add_apply(actions: Any) -> None:
    text = "Put a configuration in force, all of it or, where it is refused, nothing."
    parser = actions.add_parser("apply", help="put a configuration in force", description=text)
    _add_file(parser)
    parser.add_argument("--dry-run", action="store_true", help="only print what would change")
    asking.add_app(parser)
    parser.set_defaults(run=_run_apply)


def _add_convert(actions: Any) -> None:
    text = (
        "Print the configuration that TensorFlow Serving's files mean, as YAML; what has no place in it is told on "
        "standard error. Needs no cluster."
    )
    parser = actions.add_parser("convert", help="turn TensorFlow Serving's files into ours", description=text)
    parser.add_argument("file", metavar="MODEL_CONFIG_FILE", help="what --model_config_file names, or -")
    for flag in ("batching-parameters", "monitoring-config", "platform-config"):
        name = flag.replace("-", "_")
        parser.add_argument(f"--{flag}-file", metavar="FILE", help=f"what --{name}_file names")
    parser.add_argument("-o", "--output", metavar="OUT", help="write it to this file instead of standard output")
    parser.set_defaults(run=_run_convert)


def _add_file(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "file", metavar="FILE", help="a configuration, as YAML or in TensorFlow Serving's text form; - reads it from "
        "standard input",
    )


def _run_show(options: argparse.Namespace) -> int:
    return asking.run(_show(asking.open_control(options), options))


async def _show(control: Control, options: argparse.Namespace) -> int:
    asking.say((await control.config(options.form, secrets=options.secrets)).rstrip("\n"))
    return asking.FINE


def _run_check(options: argparse.Namespace) -> int:
    config = check(*read(options.file))
    count = "1 model" if len(config.models) == 1 else f"{len(config.models)} models"
    print(f"{options.file} is fine: {count}")
    return asking.FINE


def check(text: str, source: str) -> ServingConfig:
    """The configuration in a text of either form. Raises ConfigError with all that is wrong."""
    given = read_any(text, source)
    if isinstance(given, ServingConfig):
        return given
    nothing = ServingConfig()
    return replace_models(nothing, to_models(given, nothing))


def _run_apply(options: argparse.Namespace) -> int:
    text, source = read(options.file)
    return asking.run(_apply(asking.open_control(options), text, source, options.dry_run))


async def _apply(control: Control, text: str, source: str, dry_run: bool) -> int:
    plan = await control.apply(text, source, dry_run=True)
    asking.say(str(plan))
    if dry_run or plan.is_empty:
        return asking.FINE
    done = await control.apply(text, source)
    asking.say("applied" if done == plan else f"applied, after another change came in between:\n{done}")
    return asking.FINE


def _run_convert(options: argparse.Namespace) -> int:
    others = (options.batching_parameters_file, options.monitoring_config_file, options.platform_config_file)
    conversion = convert(read(options.file)[0], *(read(file)[0] if file else None for file in others))
    text = to_yaml(conversion.config, secrets=True, defaults=False)
    if options.output:
        write(options.output, text)
    else:
        print(text, end="")
    for note in conversion.notes:
        print(f"serving-app: {note}", file=sys.stderr)
    return asking.FINE


def read(file: str) -> tuple[str, str]:
    """The text in a file or on standard input, and how errors should call it."""
    if file == "-":
        return sys.stdin.read(), "Standard input"
    try:
        return Path(file).read_text(encoding="utf-8"), file
    except FileNotFoundError as error:
        raise ConfigError(f"There is no file {file}; check the path") from error
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"The file {file} cannot be read: {error}") from error


def write(file: str, text: str) -> None:
    """Put a text into a file."""
    try:
        Path(file).write_text(text, encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"The file {file} cannot be written: {error}") from error
