"""An identity provider that an app knows by its public keys: it signs what its users' tokens say."""

from __future__ import annotations

import json
import time
import uuid
from dataclasses import dataclass, field

import jwt
from cryptography.hazmat.primitives.asymmetric import ec

from harness.world import World

AUDIENCE = "the-app"


@dataclass
class Issuer:
    """Registered with the world's app. Nobody signs in there: its tokens are made here."""

    world: World
    url: str = field(default_factory=lambda: f"https://{uuid.uuid4().hex}.id.example.com")
    _key: ec.EllipticCurvePrivateKey = field(default_factory=lambda: ec.generate_private_key(ec.SECP256R1()))

    def __post_init__(self) -> None:
        public = json.loads(jwt.algorithms.ECAlgorithm.to_jwk(self._key.public_key()))
        keys = {"keys": [{**public, "kid": "k1", "use": "sig", "alg": "ES256"}]}
        registered = {
            "name": "Staff",
            "issuer": self.url,
            "audiences": [AUDIENCE],
            "algorithms": ["ES256"],
            "jwks_url": self.world.corner.publish(keys),
        }
        self.world.api("POST", "/identity-providers", registered)

    def token(self, subject: str = "user-1", **claims: object) -> str:
        now = int(time.time())
        said = {"iss": self.url, "aud": AUDIENCE, "sub": subject, "iat": now, "exp": now + 3600, **claims}
        return jwt.encode(said, self._key, "ES256", headers={"kid": "k1"})
