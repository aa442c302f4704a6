"""Finds and opens the shared library of the installed TensorFlow, and declares the functions that we call.

The library is opened alone and with RTLD_LOCAL; it finds its framework library by itself. With RTLD_GLOBAL the TLS
symbols that are bundled in it would shadow OpenSSL's, and the next `import ssl` would crash.

A function that may run for long (loading, running, closing) releases the interpreter lock. The many short ones keep
it: giving it up and waiting for it again, once per dimension of a tensor, would cost far more than they do.
"""

from __future__ import annotations

import ctypes
import functools
import importlib.util
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from ctypes import c_char_p, c_int, c_int64, c_size_t, c_void_p
from pathlib import Path
from typing import Any

from serving_app.core.errors import Code, FailedPrecondition, RuntimeFailure

_INSTALL = "install serving-app[cpu], or serving-app[gpu] for NVIDIA GPUs"


class Output(ctypes.Structure):
    """TF_Output: one output of one operation of a graph, which is what TensorFlow calls `name:index`."""

    _fields_ = (("oper", c_void_p), ("index", c_int))


class Buffer(ctypes.Structure):
    """TF_Buffer: a serialised message."""

    _fields_ = (("data", c_char_p), ("length", c_size_t), ("deallocator", c_void_p))


class _Written(ctypes.Structure):
    """TF_Buffer with its data as an address: what is in there is no C string."""

    _fields_ = (("data", c_void_p), ("length", c_size_t), ("deallocator", c_void_p))


_QUICK: dict[str, tuple[Any, ...]] = {  # result, then arguments
    "TF_Version": (c_char_p,),
    "TF_NewStatus": (c_void_p,),
    "TF_DeleteStatus": (None, c_void_p),
    "TF_GetCode": (c_int, c_void_p),
    "TF_Message": (c_char_p, c_void_p),
    "TF_NewBuffer": (c_void_p,),
    "TF_DeleteBuffer": (None, c_void_p),
    "TF_NewSessionOptions": (c_void_p,),
    "TF_DeleteSessionOptions": (None, c_void_p),
    "TF_SetConfig": (None, c_void_p, c_char_p, c_size_t, c_void_p),
    "TF_NewGraph": (c_void_p,),
    "TF_GraphOperationByName": (c_void_p, c_void_p, c_char_p),
    "TF_OperationNumOutputs": (c_int, c_void_p),
    "TF_OperationOutputType": (c_int, Output),
    "TF_TensorDefaultAlignment": (c_size_t,),
    "TF_NewTensor": (c_void_p, c_int, c_void_p, c_int, c_void_p, c_size_t, c_void_p, c_void_p),
    "TF_AllocateTensor": (c_void_p, c_int, c_void_p, c_int, c_size_t),
    "TF_DeleteTensor": (None, c_void_p),
    "TF_TensorType": (c_int, c_void_p),
    "TF_NumDims": (c_int, c_void_p),
    "TF_Dim": (c_int64, c_void_p, c_int),
    "TF_TensorByteSize": (c_size_t, c_void_p),
    "TF_TensorData": (c_void_p, c_void_p),
    "TF_StringGetDataPointer": (c_void_p, c_void_p),
    "TF_StringGetSize": (c_size_t, c_void_p),
    "TF_DeleteLibraryHandle": (None, c_void_p),
}
_SLOW: dict[str, tuple[Any, ...]] = {
    "TF_LoadLibrary": (c_void_p, c_char_p, c_void_p),
    "TF_LoadSessionFromSavedModel": (
        *(c_void_p, c_void_p, c_void_p, c_char_p, c_void_p),
        *(c_int, c_void_p, c_void_p, c_void_p),
    ),
    "TF_SessionRun": (
        *(None, c_void_p, c_void_p, c_void_p, c_void_p, c_int),
        *(c_void_p, c_void_p, c_int, c_void_p, c_int, c_void_p, c_void_p),
    ),
    "TF_CloseSession": (None, c_void_p, c_void_p),
    "TF_DeleteSession": (None, c_void_p, c_void_p),
    "TF_DeleteGraph": (None, c_void_p),
    "TF_TensorFromProto": (None, c_void_p, c_void_p, c_void_p),
}


class Library:
    """The C API's functions under their own names, typed for ctypes."""

    def __init__(self, path: Path) -> None:
        releasing = ctypes.CDLL(str(path), mode=ctypes.RTLD_LOCAL)
        keeping = ctypes.PyDLL(str(path), handle=releasing._handle)
        for library, prototypes in ((keeping, _QUICK), (releasing, _SLOW)):
            for name, (result, *arguments) in prototypes.items():
                function = getattr(library, name)
                function.restype, function.argtypes = result, tuple(arguments)
                setattr(self, name, function)
        self.alignment: int = self.TF_TensorDefaultAlignment()

    def __getattr__(self, name: str) -> Callable[..., Any]:
        raise AttributeError(f"{name} is not declared in {__name__}; add its prototype there.")


def library_path() -> Path:
    """Where the installed TensorFlow keeps its library. FailedPrecondition, with what to install, if there is none."""
    package = importlib.util.find_spec("tensorflow")
    for folder in (package.submodule_search_locations or ()) if package else ():
        for name in ("libtensorflow_cc.so.2", "libtensorflow_cc.2.dylib"):
            path = Path(folder, name)
            if path.exists():
                return path
    raise FailedPrecondition(f"TensorFlow's library is not installed, and this model needs it: {_INSTALL}.")


@functools.cache
def library() -> Library:
    """The library, opened on the first call, which takes some tenths of a second; every process opens it once."""
    path = library_path()
    # TensorFlow writes its log to stderr, start-up notes included; what goes wrong comes to us as errors anyway.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    try:
        return Library(path)
    except (OSError, AttributeError) as error:
        raise FailedPrecondition(f"TensorFlow's library {path} cannot be used ({error}): {_INSTALL}.") from error


def buffer_over(encoded: bytes) -> Buffer:
    """A TF_Buffer to read these bytes from. It keeps them alive, and there is nothing to free."""
    return Buffer(encoded, len(encoded), None)


def contents(buffer: int) -> bytes:
    """A copy of what the C API wrote into a TF_Buffer."""
    written = _Written.from_address(buffer)
    return ctypes.string_at(written.data, written.length)


@contextmanager
def checked_status(lib: Library) -> Iterator[int]:
    """A status to hand to the C API; what it reports is raised at the end of the block."""
    status = lib.TF_NewStatus()
    try:
        yield status
        raise_for(lib, status)
    finally:
        lib.TF_DeleteStatus(status)


def raise_for(lib: Library, status: int) -> None:
    """Raise what a status reports, with TensorFlow's code and text; nothing if it is OK."""
    code = lib.TF_GetCode(status)
    if code:
        text = lib.TF_Message(status).decode(errors="replace")
        raise RuntimeFailure(Code(code) if code in _CODES else Code.UNKNOWN, text)


def load_operations(path: str) -> None:
    """Register the operations in a shared library with TensorFlow; once is enough, more does no harm."""
    lib = library()
    with checked_status(lib) as status:
        # Freeing the handle frees the list of operations that came with it; the operations stay.
        handle = lib.TF_LoadLibrary(os.fsencode(path), status)
        if handle:
            lib.TF_DeleteLibraryHandle(handle)


def trim_memory() -> None:
    """Hand memory that is free in this process back to the operating system; about a millisecond.

    The C library would keep it for later, which after an unload is a model's worth, and looks like a leak.
    """
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # other C libraries than glibc have none, and need none
    if trim:
        trim(0)


_CODES = frozenset(int(code) for code in Code)
