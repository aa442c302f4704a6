"""The four clients keep the contract of all clients; what only gRPC has."""

from __future__ import annotations

import asyncio
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from serving_app.core.errors import FailedPrecondition, InvalidArgument
from serving_app.protocol import messages
from serving_app.remote import AsyncGrpcClient, AsyncRestClient, GrpcClient, RestClient
from tests.remote.client_contract import ClientContract, used
from tests.serve.fronts import Front


class RestContract(ClientContract):
    BY_TENSORS = False

    def address(self, front: Front, *, hurried: bool = False) -> str:
        return front.hurried_rest if hurried else front.rest_address


class GrpcContract(ClientContract):
    def address(self, front: Front, *, hurried: bool = False) -> str:
        return front.hurried_grpc if hurried else front.grpc_address

    def test_several_signatures_say_something_about_the_same_examples(self, client: Any) -> None:
        """MultiInference asks signatures for classes and for values at once, and answers by signature."""
        rows = [{"x": [1.0, 2.0]}, {}]
        found = client.multi_inference("heads", rows, classify=["serving_default"], regress=["total"], version=2)
        assert list(found) == ["serving_default", "total"]
        assert found["serving_default"] == [[("", 2.0), ("", 3.0)], [("", 0.0), ("", 0.0)]]
        np.testing.assert_array_equal(found["total"], np.array([3.0, 0.0], np.float32), strict=True)
        for wrong in ({}, {"classify": "total"}, {"classify": ["total"], "regress": ["total"]}):
            with pytest.raises(InvalidArgument):
                client.multi_inference("heads", rows, **wrong)

    @pytest.mark.parametrize("form", ["message", "bytes", "text", "file"])
    def test_a_configuration_is_put_in_force(self, front: Front, client: Any, form: str, tmp_path: Path) -> None:
        """A configuration is sent in any of its forms, and the growth of metrics comes back."""
        config = messages.ModelServerConfig()
        config.model_config_list.config.add(name="m", base_path="/m")
        text = 'model_config_list { config { name: "m" base_path: "/m" } }'
        (tmp_path / "models.config").write_text(text)
        forms = {
            "message": config, "bytes": config.SerializeToString(), "text": text, "file": tmp_path / "models.config"
        }
        assert client.reload_config(forms[form], metrics=["a"]) == {"a": 0}
        assert messages.ModelServerConfig.FromString(front.reloads[-1][0]) == config

    def test_a_configuration_that_is_none_is_told_so(self, client: Any, tmp_path: Path) -> None:
        """A text that is no configuration, a file that is not there, and what the server refuses are errors."""
        for wrong in ("no config", tmp_path / "nope", 7, messages.ModelServerConfig()):
            with pytest.raises(InvalidArgument):
                client.reload_config(wrong)


class TestRestClient(RestContract):
    def make(self, address: str, **options: Any) -> RestClient:
        return RestClient(f"http://{address}", **options)


class TestAsyncRestClient(RestContract):
    def make(self, address: str, **options: Any) -> AsyncRestClient:
        return AsyncRestClient(f"http://{address}", **options)


class TestGrpcClient(GrpcContract):
    def make(self, address: str, **options: Any) -> GrpcClient:
        return GrpcClient(address, **options)


class TestAsyncGrpcClient(GrpcContract):
    def make(self, address: str, **options: Any) -> AsyncGrpcClient:
        return AsyncGrpcClient(address, **options)


@pytest.mark.parametrize("kind", [AsyncRestClient, AsyncGrpcClient])
def test_an_awaited_client_belongs_to_one_loop(front: Front, kind: Any) -> None:
    """On another event loop than that of its first call a client says what to do."""
    client = kind(front.rest_address if kind is AsyncRestClient else front.grpc_address)

    async def ask() -> Any:
        return (await client.model("half_plus_two").predict(x=[1.0]))["y"].tolist()

    with asyncio.Runner() as first:
        assert first.run(ask()) == [3.5]
        with pytest.raises(Exception, match="one for each loop"), asyncio.Runner() as second:
            second.run(ask())
        first.run(client.close())


@pytest.mark.parametrize("kind", [RestClient, GrpcClient, AsyncRestClient, AsyncGrpcClient])
def test_a_client_is_not_handed_to_other_processes(kind: Any) -> None:
    """Who pickles a client, or a model of one, is told to make one there."""
    client = kind("localhost:1")
    for what in (client, client.model("m")):
        with pytest.raises(TypeError, match=r"has connections.*make a client in each process"):
            pickle.dumps(what)
    if kind in (RestClient, GrpcClient):
        client.close()


def test_a_forked_process_is_told(front: Front) -> None:
    """gRPC would wait for ever in a child of the process that made the client."""
    with GrpcClient(front.grpc_address) as client:
        client._exchange.__self__._process -= 1  # as a child would find it
        with pytest.raises(FailedPrecondition, match="method 'spawn'"):
            client.model("half_plus_two").predict(x=[1.0])


@pytest.mark.parametrize("kind", [RestClient, GrpcClient])
def test_a_version_and_a_label_are_not_named_together(kind: Any) -> None:
    """A model is named by at most one of them."""
    with used(kind("localhost:1")) as client, pytest.raises(ValueError, match="not both"):
        client.model("m", version=1, label="stable")
