"""Compiles `protos/` into the descriptor set that `messages` reads: `python -m serving_app.protocol.compile_protos`.

For developers, in a checkout, with grpcio-tools installed. The result depends on the .proto files alone: what different
compilers put differently (options of files, which concern other languages) is left out.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

from google.protobuf import descriptor_pb2

PROTOS = Path(__file__).parents[2] / "protos"
DESCRIPTORS = Path(__file__).with_name("descriptors.binpb")


def compile_protos(root: Path) -> bytes:
    """The descriptor set of every .proto file under `root`, dependencies first; SystemExit if one does not compile."""
    files = sorted(path.relative_to(root).as_posix() for path in root.rglob("*.proto"))
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "set"
        # In a process of its own: the compiler crashes in one that has loaded TensorFlow, as the tests have.
        # As a module it finds google/protobuf/*.proto by itself.
        options = [f"-I{root}", "--include_imports", f"--descriptor_set_out={out}"]
        done = subprocess.run([sys.executable, "-m", "grpc_tools.protoc", *options, *files], check=False)
        if done.returncode:
            raise SystemExit(done.returncode)
        compiled = descriptor_pb2.FileDescriptorSet.FromString(out.read_bytes())
    for file in compiled.file:
        file.ClearField("options")
    encoded: bytes = compiled.SerializeToString(deterministic=True)
    return encoded


def main() -> None:
    """Writes the set next to this module."""
    DESCRIPTORS.write_bytes(compile_protos(PROTOS))
    sys.stdout.write(f"{DESCRIPTORS}: {DESCRIPTORS.stat().st_size} bytes\n")


if __name__ == "__main__":
    main()
