"""What a client of TensorFlow Serving sees, as a table of requests and answers that any server can be held against.

    python -m tests.conformance models FOLDER       writes the models, and says how a server is started with them
    python -m tests.conformance --grpc localhost:8500 --rest http://localhost:8501 --models FOLDER
                                                    asks a server every row, and prints what it answers otherwise

The modules named rest_* and grpc_* hold the rows. The same rows are asked of this server in the suite of tests.
"""

from __future__ import annotations

from tests.conformance import (
    grpc_examples,
    grpc_models,
    grpc_predict,
    grpc_services,
    rest_examples,
    rest_http,
    rest_json,
    rest_models,
    rest_predict,
    rest_urls,
)
from tests.conformance.rows import Row

AREAS = {
    module.__name__.rpartition(".")[2]: module.ROWS
    for module in (
        rest_urls, rest_json, rest_predict, rest_examples, rest_models, grpc_predict, grpc_examples,
        grpc_services,
        rest_http,  # asks what the requests before were counted as
        grpc_models,  # reloads
    )
}
"""The rows by area, in the order in which they are to be asked."""


FIRST = grpc_models.FIRST
"""Rows that are asked before any other, whichever are asked."""


def rows(setting: str = "") -> list[Row]:
    """The rows for a server that was started so."""
    return [row for area in AREAS.values() for row in area if row.setting == setting]
