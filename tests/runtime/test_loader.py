"""Platforms: found by name or dotted path, imported when first asked for, and helpful when they cannot be."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest

from serving_app.core.errors import Code, FailedPrecondition, InvalidArgument, ServingError, Unavailable
from serving_app.core.signatures import DType, Signature, TensorSpec
from serving_app.runtime import Loader, LoadOptions, Servable, loader_for, register_platform
from serving_app.runtime.tensorflow_c.library import library_path
from tests.zoo import Zoo


class PlusNumber:
    """The smallest platform: a version is a file with a number, which it adds."""

    def __init__(self, number: float) -> None:
        spec = TensorSpec("", DType.FLOAT, (-1,))
        self._number: float | None = number
        self.signatures = {"serving_default": Signature({"x": spec}, {"y": spec})}

    def run(
        self,
        signature_name: str,
        inputs: Mapping[str, np.ndarray],
        outputs: Sequence[str] | None = None,
        timeout: float | None = None,
    ) -> dict[str, np.ndarray]:
        if self._number is None:
            raise Unavailable("closed")
        if signature_name not in self.signatures:
            raise FailedPrecondition(signature_name)
        if inputs.keys() != {"x"} or not set(outputs or "y") <= {"y"}:
            raise InvalidArgument("x in, y out")
        return {"y": inputs["x"] + np.float32(self._number)}

    def close(self) -> None:
        self._number = None


class PlusNumberLoader:
    """Loads PlusNumber."""

    def load(self, path: str, options: LoadOptions) -> Servable:
        try:
            return PlusNumber(float(Path(path, "number").read_text()))
        except OSError as error:
            raise ServingError(str(error)) from error


def test_platforms_keep_the_contract(zoo: Zoo, tmp_path: Path) -> None:
    """A loader of one's own and the one for TensorFlow behave alike to whoever knows the contract only."""
    (tmp_path / "number").write_text("2")
    x = np.array([1, 2], np.float32)
    for platform, path, right in (
        (f"{__name__}:PlusNumberLoader", str(tmp_path), [3, 4]),
        ("tensorflow", zoo.path("half_plus_two"), [2.5, 3]),
    ):
        loader: Loader = loader_for(platform)
        with pytest.raises(ServingError):
            loader.load(str(tmp_path / "missing"), LoadOptions())
        servable = loader.load(path, LoadOptions())
        signature = servable.signatures["serving_default"]
        assert {name: spec.dtype for name, spec in signature.inputs.items()} == {"x": DType.FLOAT}
        assert servable.run("serving_default", {"x": x})["y"].tolist() == right
        assert servable.run("serving_default", {"x": x}, ["y"], timeout=60)["y"].tolist() == right
        for wrong in (("nope", {"x": x}, None), ("serving_default", {}, None), ("serving_default", {"x": x}, ["z"])):
            with pytest.raises(ServingError):
                servable.run(*wrong)
        servable.close()
        servable.close()
        with pytest.raises(Unavailable):
            servable.run("serving_default", {"x": x})


def test_an_unknown_platform_is_told_from_a_known_one() -> None:
    """The error lists what there is and how to bring one's own."""
    with pytest.raises(InvalidArgument, match=r"Unknown platform 'torch'.*'tensorflow'.*package\.module:Class"):
        loader_for("torch")


@pytest.mark.parametrize("target", ["no_such_package.loader:Loader", f"{__name__}:NoSuchClass"])
def test_a_platform_that_cannot_be_imported_says_what_to_install(target: str) -> None:
    """A registered platform whose library is missing answers with its install hint."""
    register_platform("made-up", target, "pip install made-up")
    with pytest.raises(FailedPrecondition, match=r"'made-up' cannot be used .*: pip install made-up"):
        loader_for("made-up")
    with pytest.raises(FailedPrecondition, match="make it importable"):
        loader_for(target)


def test_without_tensorflow_one_is_told_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where TensorFlow is not installed, or a package of that name has no library, the error names the extras."""
    for found in (None, type("Spec", (), {"submodule_search_locations": ["/"]})):
        monkeypatch.setattr("importlib.util.find_spec", lambda name, found=found: found)
        with pytest.raises(FailedPrecondition, match=r"install serving-app\[cpu\], or serving-app\[gpu\]") as caught:
            library_path()
        assert caught.value.code is Code.FAILED_PRECONDITION
