# SPDX-License-Identifier: Apache-2.0
"""Secrets that the core issues: random, said once, stored as hashes, compared in constant time.

They carry 256 bits of chance, so a plain SHA-256 is enough: there is nothing to guess from.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from typing import TypeGuard

PREFIX_BYTES = 6


def new_id(kind: str) -> str:
    """A fresh identifier, as ``h-3f9c…``; fit for a queue's name."""
    return f"{kind}-{secrets.token_hex(PREFIX_BYTES)}"


def new_secret() -> str:
    """A fresh secret."""
    return secrets.token_urlsafe(32)


def derived(nonce: str, ident: str) -> str:
    """The secret that belongs to an identity, from the chance that the agent contributed."""
    return hmac.new(nonce.encode(), ident.encode(), hashlib.sha256).hexdigest()


def is_word(value: object) -> TypeGuard[str]:
    """Whether it can be looked up: databases do not take NUL, nor half a character."""
    return isinstance(value, str) and value.isascii() and value.isprintable()


def digest(secret: str) -> str:
    """What is stored of a secret."""
    return hashlib.sha256(secret.encode()).hexdigest()


def matches(secret: str, stored: str) -> bool:
    """Whether a secret is the one of which ``stored`` is the digest."""
    return hmac.compare_digest(digest(secret), stored)
