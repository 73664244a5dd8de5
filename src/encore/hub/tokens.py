"""Signed texts with an age: what links and forms carry, so that only the hub can have made them."""

from __future__ import annotations

import datetime
import hashlib
import secrets
from typing import Any

from itsdangerous import BadData, URLSafeTimedSerializer

from encore.hub.settings import HubSettings

LINK_LIFE = datetime.timedelta(minutes=20)
"""Of a mailed link that signs in."""

CONFIRM_LIFE = datetime.timedelta(days=3)
"""Of the link that confirms a subscription."""


def sign(settings: HubSettings, purpose: str, content: Any) -> str:
    """`content` (JSON values) as a text that fits into an address; a token for one purpose is none for another."""
    return str(_serializer(settings, purpose).dumps(content))


def unsign(settings: HubSettings, purpose: str, token: str, max_seconds: int | None) -> Any:
    """What was signed; None if the token is forged, damaged, for another purpose or older than `max_seconds`."""
    try:
        return _serializer(settings, purpose).loads(token, max_age=max_seconds)
    except BadData:
        return None


def _serializer(settings: HubSettings, purpose: str) -> URLSafeTimedSerializer:
    # itsdangerous compares signatures in constant time
    return URLSafeTimedSerializer(
        settings.secret, salt=f"encore-hub.{purpose}", signer_kwargs={"digest_method": hashlib.sha256}
    )


def new_secret() -> str:
    """256 random bits that fit into an address."""
    return secrets.token_urlsafe(32)


def digest_of(secret: str) -> str:
    """What the database keeps of a secret."""
    return hashlib.sha256(secret.encode()).hexdigest()
