"""Who may change something by HTTP: the tokens in a file, read where the gateway runs."""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Iterable, Iterator

from serving_app.config import ServingConfig
from serving_app.core.errors import InvalidArgument
from serving_app.serve.secret_file import read_secret

_TOKEN = re.compile(r"[A-Za-z0-9._~+/-]{16,}=*")  # RFC 6750, and long enough not to be guessed


class Tokens:
    """Those that are accepted. Only their digests are kept, so that none can get into a log or a report."""

    def __init__(self, tokens: Iterable[str]) -> None:
        self._digests = [_digest(token.encode()) for token in tokens]

    def accept(self, given: bytes) -> bool:
        """Whether this is one of them. How long that takes tells nothing about them."""
        digest = _digest(given)
        return any(hmac.compare_digest(digest, each) for each in self._digests)


def read_tokens(config: ServingConfig) -> Tokens | None:
    """The tokens in gateway.control_token_file; None if none is set. Blocks, and raises what `read_secret` raises."""
    return read_secret(config, "control_token_file", lambda text, file: Tokens(_parse(text, file)))


def _parse(text: str, file: str) -> list[str]:
    tokens = list(_find(text, file))
    if not tokens:
        raise InvalidArgument(f"{file} has no token; write one in a line, such as `openssl rand -hex 32` makes")
    return tokens


def _find(text: str, file: str) -> Iterator[str]:
    for number, line in enumerate(text.splitlines(), 1):
        token = line.strip()
        if not token or token.startswith("#"):
            continue
        if not _TOKEN.fullmatch(token):
            raise InvalidArgument(
                f"{file}, line {number}: a token is at least 16 letters, digits and -._~+/ without a blank between "
                "them; write one such as `openssl rand -hex 32` makes"
            )
        yield token


def _digest(token: bytes) -> bytes:
    return hashlib.sha256(token).digest()
