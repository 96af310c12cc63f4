"""What the Python client costs a call: `cargo xtask overhead` runs it beside the Rust one.

Arguments: calls, and calls at once. Prints one line of JSON.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time

from alter_sdk import App


async def run(app: App, calls: int, at_once: int) -> list[float]:
    """How long each call took."""
    url, grant, took = os.environ["DEMO_URL"] + "/hello", os.environ["GRANT_ID"], []

    async def worker() -> None:
        for _ in range(calls // at_once):
            started = time.perf_counter()
            await app.request("GET", url, grant_id=grant, reason="overhead")
            took.append(time.perf_counter() - started)

    await asyncio.gather(*(worker() for _ in range(at_once)))
    return took


async def main(calls: int, at_once: int) -> None:
    async with App(api_key=os.environ["ALTER_API_KEY"]) as app:
        await run(app, calls // 10, at_once)
    started, cpu = time.perf_counter(), time.process_time()
    async with App(api_key=os.environ["ALTER_API_KEY"]) as app:
        took = sorted(await run(app, calls, at_once))
    cpu, elapsed = time.process_time() - cpu, time.perf_counter() - started
    micros = {
        "p50_us": took[len(took) // 2],
        "p99_us": took[len(took) * 99 // 100],
        "cpu_us": cpu / len(took),
        "elapsed_us": elapsed / len(took),
    }
    print(json.dumps({"calls": len(took), "at_once": at_once, **{n: round(s * 1e6) for n, s in micros.items()}}))


asyncio.run(main(int(sys.argv[1]), int(sys.argv[2])))
