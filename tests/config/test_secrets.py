"""Credentials are hidden where people look, and put back where a shown configuration is handed in again."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings

from serving_app.config import ConfigError, ServingConfig, parse, parse_yaml, redact, restore_secrets, to_yaml
from tests.config.configs import configs


@pytest.mark.parametrize(
    ("options", "shown"),
    [
        ({"key": "a", "secret": "b"}, {"key": "***", "secret": "***"}),
        ({"endpoint_url": "http://host", "anon": False}, {"endpoint_url": "http://host", "anon": False}),
        ({"client_kwargs": {"aws_secret_access_key": "x", "region": "r"}}, None),
        ({"token": {"type": "service_account", "private_key": "x"}}, {"token": "***"}),
        ({"token": None, "password": "", "use_token": True}, {"token": None, "password": "", "use_token": True}),
        ({"list": [{"Password": "x"}, "y"]}, {"list": [{"Password": "***"}, "y"]}),
        ({"sas": "x", "sas_url": "x", "mesas": "x"}, {"sas": "***", "sas_url": "***", "mesas": "x"}),
        ({"connection_string": "AccountKey=x", "connectionString": "x"}, None),
        ({"X-Amz-Credential": "x", "apiKey": "x"}, {"X-Amz-Credential": "***", "apiKey": "***"}),
        ({"proxy": "https://me:word@host:8/x"}, {"proxy": "https://***@host:8/x"}),
        ({"proxy": "https://host/x@y:z"}, {"proxy": "https://host/x@y:z"}),
        ({"pin_token": 1234}, {"pin_token": "***"}),
    ],
)
def test_hides_secrets(options: dict[str, Any], shown: dict[str, Any] | None) -> None:
    """What looks like a secret by its key, and what stands before the host of a URL, is not shown; all else is."""
    if shown is None:
        shown = {
            "client_kwargs": {"client_kwargs": {"aws_secret_access_key": "***", "region": "r"}},
            "connection_string": {"connection_string": "***", "connectionString": "***"},
        }[next(iter(options))]
    config = redact(
        parse({"models": {"m": {"base_path": "/m", "storage_options": options}}, "stores": {"s3": options}})
    )
    assert (config.models[0].storage_options, config.stores["s3"]) == (shown, shown)


def test_hides_secrets_in_locations() -> None:
    """A password in a URI is hidden wherever a URI may stand."""
    config = parse(
        {
            "models": {"m": "sftp://me:word@host/m"}, "state_uri": "sftp://me:word@host/s", "model_config_file": "/f",
            "gateway": {
                "ssl_config_file": "sftp://me:word@host/k", "control_token_file": "sftp://me:word@host/t",
            },
        }
    )
    assert "word" not in to_yaml(config)
    assert "sftp://***@host/m" in to_yaml(config)
    assert "sftp://***@host/k" in to_yaml(config)
    assert "sftp://***@host/t" in to_yaml(config)
    assert parse_yaml(to_yaml(config, secrets=True)) == config


IN_FORCE = {
    "models": {"m": {"base_path": "/m", "storage_options": {"key": "k", "token": {"id": "t"}, "list": [{"key": "l"}]}}},
    "stores": {"s3": {"secret": "s", "client_kwargs": {"password": "p"}}},
}


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"stores": {"s3": {"secret": "***"}}}, {"stores": {"s3": {"secret": "s"}}}),
        ({"stores": {"s3": {"secret": "new"}}}, {"stores": {"s3": {"secret": "new"}}}),
        ({"stores": {"s3": {"note": "***"}}}, {"stores": {"s3": {"note": "***"}}}),
        (
            {"models": {"m": {"base_path": "/other", "storage_options": {"token": "***"}}}},
            {"models": {"m": {"base_path": "/other", "storage_options": {"token": {"id": "t"}}}}},
        ),
    ],
)
def test_puts_secrets_back(changes: dict[str, Any], expected: dict[str, Any]) -> None:
    """`***` at the place of a secret in force means that secret; any other value is what it says."""
    in_force = parse(IN_FORCE)
    assert restore_secrets(parse({**IN_FORCE, **changes}), in_force) == parse({**IN_FORCE, **expected})


@pytest.mark.parametrize(
    ("data", "place"),
    [
        ({"stores": {"gs": {"secret": "***"}}}, "stores.gs.secret"),
        ({"stores": {"s3": {"key": "***"}}}, "stores.s3.key"),
        ({"stores": {"s3": {"client_kwargs": {"key": "***"}}}}, "stores.s3.client_kwargs.key"),
        ({"models": {"n": {"base_path": "/m", "storage_options": {"key": "***"}}}}, "models.n.storage_options.key"),
        (
            {"models": {"m": {"base_path": "/m", "storage_options": {"list": [{}, {"key": "***"}]}}}},
            "models.m.storage_options.list[1].key",
        ),
        ({"models": {"m": "s3://***@host/m"}}, "models.m.base_path"),
        ({"state_uri": "sftp://***@host/s"}, "state_uri"),
    ],
)
def test_refuses_secrets_that_nobody_knows(data: dict[str, Any], place: str) -> None:
    """`***` where no secret is in force is told by its place, instead of being taken for a password."""
    with pytest.raises(ConfigError) as caught:
        restore_secrets(parse(data), parse(IN_FORCE))
    assert str(caught.value) == (
        f"{place}: *** stands for a secret that is not shown, and none is in force here; write the value itself"
    )


@settings(max_examples=30)
@given(configs())
def test_what_is_shown_can_be_handed_in_again(config: ServingConfig) -> None:
    """A shown configuration, applied over the one that it shows, is that one; what is hidden stays hidden."""
    shown = redact(config)
    assert restore_secrets(parse_yaml(to_yaml(config)), config) == config
    assert redact(shown) == shown
