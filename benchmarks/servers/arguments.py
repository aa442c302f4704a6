"""What each of them is told; the same as the peers."""

from __future__ import annotations

import argparse


def read() -> argparse.Namespace:
    """`model`, `http_port`, `grpc_port`, `other_port`, `folder`."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", required=True)
    parser.add_argument("--folder", required=True)
    for name in ("http", "grpc", "other"):
        parser.add_argument(f"--{name}-port", type=int, required=True)
    return parser.parse_args()
