"""Secret values that can be recognised anywhere, and the scan for them.

Every secret a test stores contains one marker, chosen anew in each run, so one scan finds them all.
API keys and personal access tokens have shapes of their own and are found by those.
"""

from __future__ import annotations

import base64
import re
import secrets
import string
from dataclasses import dataclass
from pathlib import Path

ALPHABET = string.ascii_uppercase + "234567"
MARKER = "QZ" + "".join(secrets.choice(ALPHABET) for _ in range(14))

API_KEY = re.compile(rb"alter_(?:rk|ak|dk|pk)_[a-z2-7]{22}_[a-z2-7]{6}|alter_key_[A-Za-z0-9_-]{40}")
PAT = re.compile(rb"grantd_pat_[A-Za-z0-9_-]{43}")


def _random(length: int, alphabet: str = ALPHABET) -> str:
    return "".join(secrets.choice(alphabet) for _ in range(length))


def token() -> str:
    """A bearer token or API key value with characters that percent- and JSON-encoding change."""
    return f"{MARKER}.{_random(12)}+/=~%{_random(4)}"


def password() -> str:
    return f"{MARKER}:{_random(10)}"


def access_key_id() -> str:
    return f"AKIA{MARKER}{_random(6)}"


def secret_access_key() -> str:
    return f"{MARKER}/{_random(22)}+"


def _base64_forms(raw: bytes) -> set[bytes]:
    """The characters that are the same whatever precedes and follows, for the three alignments and both alphabets."""
    forms = set()
    for shift in range(3):
        padded = bytes(shift) + raw
        whole = len(padded) // 3 * 3
        text = base64.b64encode(padded[:whole])
        core = text[4:] if shift else text
        forms |= {core, core.replace(b"+", b"-").replace(b"/", b"_")}
    return {form for form in forms if len(form) >= 8}


def encoded_forms(raw: bytes) -> set[bytes]:
    percent = b"".join(b"%%%02X" % byte for byte in raw)
    return {
        raw.hex().encode(),
        raw.hex().upper().encode(),
        percent,
        percent.lower(),
        raw[::-1],
        *_base64_forms(raw),
    }


@dataclass
class Find:
    where: str
    what: str
    around: bytes

    def __str__(self) -> str:
        return f"{self.what} in {self.where}: …{self.around!r}…"


_MARKER_FORMS = {MARKER.encode(), MARKER.lower().encode(), *encoded_forms(MARKER.encode())}
_KEY_FORMS = set().union(*map(encoded_forms, (b"alter_rk_", b"alter_ak_", b"alter_dk_", b"alter_key_", b"grantd_pat_")))


def scan(where: str, data: bytes, *, ignore: tuple[bytes, ...] = ()) -> list[Find]:
    """Every occurrence of a canary, an API key or a personal access token in `data`, raw or encoded."""
    finds = []
    for form in _MARKER_FORMS:
        if (at := data.find(form)) >= 0:
            finds.append(Find(where, "canary secret", data[max(0, at - 60) : at + len(form) + 40]))
    for form in _KEY_FORMS:
        if (at := data.find(form)) >= 0:
            finds.append(Find(where, "encoded API key or PAT", data[max(0, at - 60) : at + 90]))
    for shape, what in ((API_KEY, "API key"), (PAT, "personal access token")):
        for hit in shape.finditer(data):
            if hit.group() not in ignore:
                finds.append(Find(where, what, data[max(0, hit.start() - 60) : hit.end() + 20]))
                break
    return finds


def scan_directory(directory: Path, *, skip: tuple[str, ...] = ("operator.pat",)) -> list[Find]:
    finds = []
    for path in sorted(directory.rglob("*")):
        if path.is_file() and path.name not in skip:
            finds += scan(str(path), path.read_bytes())
    return finds
