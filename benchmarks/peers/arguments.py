"""What each server of the suite is told."""

from __future__ import annotations

import argparse

MAX_BATCH = 128
"""Rows that a batch may have, in every server that batches. The requests of the suite have up to 8."""


def read() -> argparse.Namespace:
    """`model`, `http_port`, `grpc_port`, `other_port`, `folder` (for files of the server's own)."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", required=True)
    parser.add_argument("--folder", required=True)
    for name in ("http", "grpc", "other"):
        parser.add_argument(f"--{name}-port", type=int, required=True)
    return parser.parse_args()
