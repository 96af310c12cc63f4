"""Serving as a service does it: metrics, the drain, new certificates, too few descriptors, a log that nobody reads."""

from __future__ import annotations

import re
import resource
import shutil
import signal
import socket
import ssl
import subprocess
from collections.abc import Callable
from http import client

import pytest

from harness import http
from harness.server import Grantd, wait_until
from harness.tls import Authority
from harness.world import World

METRICS = re.compile(r"Metrics are at (http://[0-9.:]+)/metrics")

pytestmark = pytest.mark.parametrize("engine", ["sqlite"], indirect=True)


def metrics_url(server: Grantd) -> str:
    return wait_until(lambda: METRICS.search(server.log_text()), what="the address of the metrics").group(1)


def metric(server: Grantd, series: str) -> float:
    answer = http.call("GET", f"{metrics_url(server)}/metrics")
    assert answer.status == 200
    found = re.search(rf"^{re.escape(series)} (\S+)$", answer.body.decode(), re.MULTILINE)
    assert found, answer.body.decode()
    return float(found.group(1))


def test_load_balancers_hear_of_the_end_first(private_server: Callable[..., Grantd]):
    """Two signals: the first begins a delay that would outlast the test, the second ends it."""
    server = private_server(env={"GRANTD_METRICS_LISTEN": "127.0.0.1:0", "GRANTD_DRAIN_DELAY_S": "300"})
    assert http.call("GET", f"{server.url}/readyz").status == 200
    assert http.call("GET", f"{metrics_url(server)}/readyz").status == 200
    assert http.call("GET", f"{metrics_url(server)}/api/v1/whoami").status == 404
    server.process.send_signal(signal.SIGTERM)
    wait_until(lambda: http.call("GET", f"{server.url}/readyz").status == 503, what="/readyz to fail")
    assert http.call("GET", f"{server.url}/healthz").status == 200, "everything else is served on"
    assert metric(server, "grantd_draining") == 1
    server.process.send_signal(signal.SIGTERM)
    assert server._reap(60) == 0


def test_metrics_of_the_process_have_values(private_server: Callable[..., Grantd]):
    server = private_server(env={"GRANTD_METRICS_LISTEN": "127.0.0.1:0"})
    assert metric(server, "process_resident_memory_bytes") > 1e6
    assert metric(server, "process_open_fds") > 5
    assert metric(server, "grantd_log_lines_dropped_total") == 0
    assert metric(server, "grantd_tls_certificate_expiry_timestamp_seconds") == 0


def test_a_new_certificate_is_served_and_a_broken_one_is_not(tls_world: World, authority: Authority):
    server = tls_world.server
    files = [server._server_env[f"GRANTD_TLS_{name}_FILE"] for name in ("CERT", "KEY")]

    def served() -> bytes:
        trust = ssl.create_default_context(cafile=str(authority.file))
        with socket.create_connection(("localhost", server.port), timeout=30) as plain:
            with trust.wrap_socket(plain, server_hostname="localhost") as wrapped:
                return wrapped.getpeercert(binary_form=True)

    first = served()
    broken = authority.issue("broken", dns=("localhost",))
    shutil.copy(broken.cert, files[0])
    server.process.send_signal(signal.SIGHUP)
    wait_until(lambda: "cannot be used; the old certificate is served on" in server.log_text(), what="the complaint")
    assert served() == first
    shutil.copy(broken.key, files[1])
    server.process.send_signal(signal.SIGHUP)
    wait_until(lambda: served() != first, what="the new certificate")


def test_too_few_descriptors_end_nothing(private_server: Callable[..., Grantd]):
    """Lowered while it runs, as if something else had eaten them up."""
    server = private_server()
    _, most = resource.prlimit(server.process.pid, resource.RLIMIT_NOFILE)
    resource.prlimit(server.process.pid, resource.RLIMIT_NOFILE, (16, most))
    held = [socket.create_connection(("127.0.0.1", server.port), timeout=30) for _ in range(32)]
    wait_until(lambda: "Cannot accept connections at the moment" in server.log_text(), what="the refusal")
    for connection in held:
        connection.close()
    resource.prlimit(server.process.pid, resource.RLIMIT_NOFILE, (most, most))
    assert http.call("GET", f"{server.url}/healthz").status == 200
    assert server.log_text().count("Cannot accept connections at the moment") == 1


def test_a_log_that_nobody_reads_holds_up_no_request(private_server: Callable[..., Grantd]):
    """Its reader stands still, its pipe is full, and far more lines come than the queue holds."""
    server = private_server(env={"GRANTD_METRICS_LISTEN": "127.0.0.1:0"}, start=False)
    command = [server.binary, "serve", "--data-dir", str(server.data_dir), "--listen", "127.0.0.1:0"]
    server.process = subprocess.Popen(command, env=server._server_env, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL)
    server._drains = []
    told = b""
    while not (b"listening on" in told and b"Metrics are at" in told):
        told += server.process.stderr.readline()
    server.url = "http://" + re.search(rb"listening on http://(\S+)", told).group(1).decode()
    server.log.write_bytes(told)
    connection = client.HTTPConnection("127.0.0.1", server.port, timeout=60)
    for _ in range(10_000):
        connection.request("GET", "/healthz")
        answer = connection.getresponse()
        answer.read()
        assert answer.status == 200
    connection.close()
    assert metric(server, "grantd_log_lines_dropped_total") > 0
    server.process.send_signal(signal.SIGTERM)
    assert server.process.wait(60) == 0
