"""What every client of a server promises, whatever its protocol, and whether it blocks or is awaited."""

from __future__ import annotations

import asyncio
import inspect
import socket
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest

from serving_app.core.errors import Code, Internal, InvalidArgument, ServingError, Unavailable, Unimplemented
from serving_app.core.routing import VersionStatus
from serving_app.core.servable import ServableId
from serving_app.core.states import PublicState
from serving_app.remote import Retries
from serving_app.remote.clients import AsyncClient, BlockingClient
from tests.serve.fronts import Front
from tests.zoo import Zoo

_IN_JSON = {
    *("float32", "float64", "int8", "int16", "int32", "int64", "uint8", "uint32", "uint64", "bool", "string")
}


class Awaited:
    """Something with coroutine methods, called as if they blocked."""

    def __init__(self, target: Any, runner: asyncio.Runner) -> None:
        self._target = target
        self._runner = runner

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._target, name)

        def call(*arguments: Any, **options: Any) -> Any:
            result = method(*arguments, **options)
            if inspect.iscoroutine(result):
                return self._runner.run(result)
            return Awaited(result, self._runner) if name == "model" else result

        return call


@contextmanager
def used(client: BlockingClient | AsyncClient) -> Iterator[Any]:
    """A client that is closed afterwards, and blocks in any case."""
    if isinstance(client, BlockingClient):
        with client:
            yield client
        return
    with asyncio.Runner() as runner:
        try:
            yield Awaited(client, runner)
        finally:
            runner.run(client.close())


class ClientContract:
    """Inherited by one class per client, which says how to make it."""

    def make(self, address: str, **options: Any) -> BlockingClient | AsyncClient:
        """A client of the server at an address."""
        raise NotImplementedError

    def address(self, front: Front, *, hurried: bool = False) -> str:
        """Where the front end listens."""
        raise NotImplementedError

    BY_TENSORS = True
    """Whether tensors travel as tensors, and not as JSON."""

    @pytest.fixture
    def client(self, front: Front) -> Iterator[Any]:
        with used(self.make(self.address(front))) as client:
            yield client

    def fails(self, kind: type[ServingError], message: str, ask: Callable[[], Any]) -> ServingError:
        with pytest.raises(kind) as caught:
            ask()
        assert message in str(caught.value)
        return caught.value

    @pytest.mark.parametrize(
        ("choice", "right"),
        [
            ({}, 3.5), ({"version": 1}, 2.5), ({"version": 2}, 3.5), ({"label": "stable"}, 2.5),
            ({"label": "canary"}, 3.5),
        ],
    )
    def test_a_version_is_asked_by_number_label_or_being_the_latest(
        self, client: Any, choice: dict[str, Any], right: float
    ) -> None:
        """What a model is made with says which version answers each of its calls."""
        outputs = client.model("half_plus_two", **choice).predict(x=[1.0])
        assert list(outputs) == ["y"]
        assert outputs["y"].dtype == np.float32
        assert outputs["y"].tolist() == [right]

    @pytest.mark.parametrize(
        "inputs",
        [{"x": [1, 2]}, {"x": np.array([1.0, 2.0])}, [{"x": 1.0}, {"x": 2.0}], [1.0, 2.0], np.array([1, 2], np.int8)],
    )
    def test_inputs_come_in_many_forms(self, client: Any, inputs: Any) -> None:
        """A mapping, rows, and for an only input its value become the tensors that the signature wants."""
        assert client.model("half_plus_two").predict(inputs)["y"].tolist() == [3.5, 4.0]

    def test_signatures_are_asked_by_name(self, client: Any) -> None:
        """Any signature is found by its name, one without inputs included as far as the protocol has such requests."""
        model = client.model("several")
        assert model.predict(x=[2.0])["y"].tolist() == [6.0]
        assert model.predict(x=[3.0], signature_name="square")["y"].tolist() == [9.0]
        scalar = model.predict(x=3.0, signature_name="scalar")["y"]
        assert (scalar.shape, scalar.tolist()) == ((), 4.0)

    def test_several_inputs_and_outputs_keep_their_names(self, client: Any, zoo: Zoo) -> None:
        """A model with three inputs and five outputs answers as TensorFlow itself does; outputs can be chosen."""
        example = zoo.examples("many")[0]
        outputs = client.model("many").predict(example.inputs)
        assert outputs.keys() == example.outputs.keys()
        for name, right in example.outputs.items():
            np.testing.assert_array_equal(outputs[name], right, strict=True)
        assert list(client.model("many").predict(example.inputs, outputs=["not", "total"])) == ["not", "total"]

    def test_every_type_comes_back_as_it_is(self, client: Any, zoo: Zoo) -> None:
        """Tensors of all types and shapes that the protocol can say go there and back unchanged."""
        model = client.model("dtypes")
        for example in zoo.examples("dtypes"):
            if not self.BY_TENSORS and example.signature not in _IN_JSON:
                with pytest.raises(Unimplemented):
                    model.predict(example.inputs, signature_name=example.signature)
                continue
            outputs = model.predict(example.inputs, signature_name=example.signature)
            wanted = example.outputs["y"]
            if not wanted.size and not self.BY_TENSORS:  # JSON has no word for what is in none of so many lists
                wanted = wanted.reshape(outputs["y"].shape)
            if wanted.dtype.kind == "S":  # TensorFlow gave a single string
                wanted = wanted.astype(object)
            np.testing.assert_array_equal(outputs["y"], wanted, strict=True)

    def test_values_that_are_no_numbers_come_back(self, client: Any) -> None:
        """NaN and both infinities are values as others are."""
        values = np.array([np.nan, np.inf, -np.inf, 1.0], np.float32)
        outputs = client.model("dtypes").predict(x=values, signature_name="float32")
        np.testing.assert_array_equal(outputs["y"], values, strict=True)

    @pytest.mark.parametrize("compress", [False, True])
    def test_large_tensors_come_back(self, front: Front, compress: bool) -> None:
        """Tensors of many bytes arrive whole, packed or not."""
        values = np.linspace(-1, 1, 50_000, dtype=np.float32).reshape(100, 500)
        with used(self.make(self.address(front), compress=compress)) as client:
            outputs = client.model("dtypes").predict(x=values, signature_name="float32")
        np.testing.assert_array_equal(outputs["y"], values, strict=True)

    def test_types_are_guessed_if_signatures_are_not_asked_for(self, front: Front) -> None:
        """A client that knows nothing of signatures sends values as they look, and reads what comes."""
        with used(self.make(self.address(front), typed=False)) as client:
            outputs = client.model("many").predict(a=[[1.0, 2.0]], b=[3], flag=[True], outputs=["total", "not"])
            assert (outputs["total"].tolist(), outputs["not"].tolist()) == ([6.0], [False])
            text = client.model("dtypes").predict(x=["zwölf", b"\xff"], signature_name="string")
            assert [each.tolist() for each in text.values()] == [["zwölf".encode(), b"\xff"]]
            self.fails(InvalidArgument, "by name", lambda: client.model("half_plus_two").predict([1.0]))

    def test_examples_are_classified(self, client: Any, zoo: Zoo) -> None:
        """Classify gives pairs of a label and a score for each example; features may be shared by all."""
        right = zoo.examples("parser")[0].outputs
        model = client.model("parser")
        found = model.classify([{"x": [1.0, 2.0]}, {"x": np.array([-0.5, 0.25])}, {}])
        assert [[label.encode() for label, _ in row] for row in found] == right["classes"].tolist()
        scores = np.array([[score for _, score in row] for row in found], np.float32)
        np.testing.assert_array_equal(scores, right["scores"])
        assert model.classify([{}], context={"x": [1.0, 2.0]}) == found[:1]
        assert model.classify(x=[[1.0, 2.0]]) == found[:1]

    def test_examples_have_features_of_every_kind(self, client: Any) -> None:
        """Texts, bytes that are no text, integers, and features without values arrive, and are the model's affair."""
        model = client.model("parser")
        row = {"x": [1.0, 2.0], "text": "a\"b\n", "bytes": b"\xff\0", "many": ["a", "b"], "number": -3, "none": []}
        assert model.regress([row, {"x": [0.5, float("inf")]}], signature_name="regress").tolist() == [3.0, np.inf]

    def test_examples_have_values(self, client: Any) -> None:
        """Regress gives a value for each example."""
        values = client.model("parser").regress([{"x": [1.0, 2.0]}, {}], signature_name="regress")
        np.testing.assert_array_equal(values, np.array([3.0, 0.0], np.float32), strict=True)

    def test_bytes_that_are_no_example_are_refused(self, client: Any) -> None:
        """By both protocols what is no tf.Example is the caller's mistake, and no crash."""
        with pytest.raises(InvalidArgument):
            client.model("parser").classify([b"\xff\xff"])

    def test_metadata_are_told(self, client: Any) -> None:
        """Metadata say which version it is and what can be asked of it."""
        found = client.model("half_plus_two", label="stable").metadata()
        assert found.servable == ServableId("half_plus_two", 1)
        assert found.signatures["serving_default"].inputs["x"].shape == (-1,)
        assert "serving_default" in str(found)

    def test_states_are_told(self, client: Any) -> None:
        """The states of all versions, or of one, with what went wrong."""
        failed = VersionStatus(3, PublicState.END, Code.NOT_FOUND, 'no "saved_model.pb"')
        ready = (VersionStatus(2, PublicState.AVAILABLE), VersionStatus(1, PublicState.AVAILABLE))
        assert client.model("half_plus_two").status() == (failed, *ready)
        assert client.model("half_plus_two", version=1).status() == ready[1:]

    @pytest.mark.parametrize(
        ("name", "choice", "code", "message"),
        [
            ("nope", {}, Code.NOT_FOUND, "Servable not found for request: Latest(nope)"),
            ("broken", {}, Code.NOT_FOUND, "Servable not found for request: Latest(broken)"),
            ("half_plus_two", {"version": 9}, Code.NOT_FOUND, "Specific(half_plus_two, 9)"),
            ("half_plus_two", {"label": "a/b c"}, Code.INVALID_ARGUMENT, "Unrecognized servable version label: a/b c"),
            ("", {}, Code.INVALID_ARGUMENT, "name is empty"),
        ],
    )
    def test_errors_have_the_servers_code_and_words(
        self, client: Any, name: str, choice: dict[str, Any], code: Code, message: str
    ) -> None:
        """An unknown model, version or label is an error of our tree that says what the server said."""
        model = client.model(name, **choice)
        asks = (model.metadata, lambda: model.predict(x=[1.0]), lambda: model.classify([{"x": [1.0]}]))
        for ask in asks:
            assert self.fails(ServingError, message, ask).code is code

    @pytest.mark.parametrize(
        ("inputs", "options", "code", "message"),
        [
            ({"x": [1.0]}, {"signature_name": "nope"}, Code.FAILED_PRECONDITION, '"nope" not found'),
            ({"z": [1.0]}, {}, Code.INVALID_ARGUMENT, "missing 'x'; unknown 'z'"),
            ({"x": [1.0], "z": [1.0]}, {}, Code.INVALID_ARGUMENT, "unknown 'z'"),
            ({"x": ["text"]}, {}, Code.INVALID_ARGUMENT, "input 'x' must be of type float"),
            ({"x": [1.0]}, {"outputs": ["nope"]}, Code.INVALID_ARGUMENT, "not found in signature: nope"),
            ({"x": [1.0]}, {"outputs": "y"}, Code.INVALID_ARGUMENT, "outputs=['y']"),
            ({"x": [1.0]}, {"timeout": -1.0}, Code.INVALID_ARGUMENT, "timeout"),
        ],
    )
    def test_what_does_not_fit_the_signature_is_said(
        self, client: Any, inputs: Any, options: dict[str, Any], code: Code, message: str
    ) -> None:
        """Wrong names and types are told by name, and the next call is answered."""
        model = client.model("half_plus_two")
        for _ in range(2):  # without the signatures and with them
            assert self.fails(ServingError, message, lambda: model.predict(inputs, **options)).code is code
        assert model.predict(x=[1.0])["y"].tolist() == [3.5]

    def test_wrong_shapes_are_the_models_affair(self, client: Any) -> None:
        """What only the model can refuse comes back as its own error."""
        error = self.fails(ServingError, "", lambda: client.model("dense").predict(x=[[1.0, 2.0, 3.0]]))
        assert error.code is Code.INVALID_ARGUMENT

    def test_a_fault_of_the_server_is_internal(self, client: Any) -> None:
        """What went wrong in the server comes as its own fault, and is not tried again."""
        self.fails(Internal, "KeyError: 'a fault of our own'", lambda: client.model("faulty").predict(x=[1.0]))

    def test_a_call_ends_at_its_deadline(self, front: Front, client: Any) -> None:
        """When a model does not answer, the caller hears that after the time that was given; others are answered."""
        front.hold()
        try:
            stuck = client.model("stuck")
            # A gRPC server knows the deadline, too, and may be the first to say so.
            error = self.fails(ServingError, "gave no answer within", lambda: stuck.predict(x=[1.0], timeout=0.2))
            assert error.code is Code.DEADLINE_EXCEEDED
            assert client.model("half_plus_two").predict(x=[1.0])["y"].tolist() == [3.5]
        finally:
            front.let_go()
        assert stuck.predict(x=[1.0])["y"].tolist() == [1.0]

    def test_the_servers_own_limit_is_told_in_its_words(self, front: Front) -> None:
        """A server that gives up says so itself, and is not asked again."""
        front.hold()
        try:
            with used(self.make(self.address(front, hurried=True))) as client:
                error = self.fails(
                    ServingError, "stuck@1 gave no answer", lambda: client.model("stuck").predict(x=[1.0], timeout=None)
                )
            assert error.code is Code.DEADLINE_EXCEEDED
        finally:
            front.let_go()

    def test_a_server_that_is_not_there_is_named(self) -> None:
        """Nobody listens: the error has the address, and says where to look."""
        with socket.socket() as unheard:
            unheard.bind(("127.0.0.1", 0))
            address = f"127.0.0.1:{unheard.getsockname()[1]}"
            with used(self.make(address, retries=Retries(2, 0.0, 0.0))) as client:
                self.fails(Unavailable, f"{address} cannot be reached", lambda: client.model("m").status())

    def test_a_closed_client_says_so(self, front: Front) -> None:
        """A call on a client that was closed is an error that tells what to do."""
        with used(self.make(self.address(front))) as client:
            model = client.model("half_plus_two")
            assert model.predict(x=[1.0])["y"].tolist() == [3.5]
            client.close()
            self.fails(Unavailable, "this client is closed", lambda: model.predict(x=[1.0]))

    def test_many_calls_at_once_get_each_their_own_answer(self, front: Front) -> None:
        """Calls that are under way together are answered each with its own values, good and bad ones side by side."""
        values = [float(number) for number in range(64)]
        answers = self.ask_at_once(self.make(self.address(front)), values)
        assert answers == [None if value % 4 == 0 else [value / 2 + 3.0] for value in values]

    def ask_at_once(self, client: BlockingClient | AsyncClient, values: list[float]) -> list[Any]:
        """What half_plus_two says to each of these, None where it says that the input is wrong."""
        if isinstance(client, BlockingClient):
            with client, ThreadPoolExecutor(8) as pool:
                return list(pool.map(lambda value: _ask(client, value), values))

        async def main() -> list[Any]:
            async with client:
                return list(await asyncio.gather(*(_ask_async(client, value) for value in values)))

        return asyncio.run(main())


def _ask(client: BlockingClient, value: float) -> Any:
    model = client.model("half_plus_two")
    try:
        return model.predict(x=[value] if value % 4 else ["text"])["y"].tolist()
    except InvalidArgument:
        return None


async def _ask_async(client: AsyncClient, value: float) -> Any:
    model = client.model("half_plus_two")
    try:
        return (await model.predict(x=[value] if value % 4 else ["text"]))["y"].tolist()
    except InvalidArgument:
        return None
