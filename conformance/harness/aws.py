"""A minimal S3 and STS that checks every signature by computing it again with botocore, which is the oracle here."""

from __future__ import annotations

import hashlib
import threading
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler
from urllib.parse import urlsplit

from harness.provider import _Server

BUCKETS = b"""<?xml version="1.0" encoding="UTF-8"?>
<ListAllMyBucketsResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><Owner><ID>1</ID></Owner>
<Buckets><Bucket><Name>ledger</Name><CreationDate>2024-01-01T00:00:00.000Z</CreationDate></Bucket></Buckets>
</ListAllMyBucketsResult>"""
IDENTITY = b"""<GetCallerIdentityResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><GetCallerIdentityResult>
<Arn>arn:aws:iam::1:user/t</Arn><UserId>U</UserId><Account>1</Account></GetCallerIdentityResult>
<ResponseMetadata><RequestId>r</RequestId></ResponseMetadata></GetCallerIdentityResponse>"""


def _s3_error(code: str) -> bytes:
    return f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>{code}</Message></Error>".encode()


@dataclass
class Account:
    secret_key: str
    session_token: str | None = None


@dataclass
class Call:
    method: str
    target: str
    headers: dict[str, str]
    body: bytes
    verdict: str
    region: str = ""
    service: str = ""


class Aws:
    """Accounts are added by the tests; `calls` of an access key says what came and whether it verified."""

    def __init__(self) -> None:
        self.accounts: dict[str, Account] = {}
        self._calls: dict[str, list[Call]] = {}
        self._lock = threading.Lock()
        aws = self

        class Handler(_Handler):
            owner = aws

        self._server = _Server(("127.0.0.1", 0), Handler)
        self.port = self._server.server_address[1]
        self.authority = f"127.0.0.1:{self.port}"
        self.url = f"http://{self.authority}"
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def calls(self, access_key: str) -> list[Call]:
        with self._lock:
            return list(self._calls.get(access_key, []))

    def record(self, access_key: str, call: Call) -> None:
        with self._lock:
            self._calls.setdefault(access_key, []).append(call)

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def judge(self, method: str, target: str, headers: dict[str, str], body: bytes) -> tuple[str, Call]:
        """The access key and the recorded call with its verdict: `ok`, or what is wrong."""
        call = Call(method, target, headers, body, "unsigned")
        scheme, _, rest = headers.get("authorization", "").partition(" ")
        parts = dict(p.strip().partition("=")[::2] for p in rest.split(",") if "=" in p)
        if scheme != "AWS4-HMAC-SHA256" or {"Credential", "SignedHeaders", "Signature"} - parts.keys():
            return "", call
        access_key, date, call.region, call.service, _ = parts["Credential"].split("/")
        account = self.accounts.get(access_key)
        signed = parts["SignedHeaders"].split(";")
        if account is None:
            call.verdict = "unknown access key"
        elif headers.get("x-amz-content-sha256") != hashlib.sha256(body).hexdigest():
            call.verdict = "payload hash is not that of the body"
        elif headers.get("x-amz-security-token") != account.session_token:
            call.verdict = "wrong session token"
        elif not {"host", "x-amz-content-sha256", "x-amz-date"} <= set(signed):
            call.verdict = "a mandatory header is not signed"
        elif account.session_token and "x-amz-security-token" not in signed:
            call.verdict = "the session token is not signed"
        elif not headers["x-amz-date"].startswith(date):
            call.verdict = "date and credential scope differ"
        else:
            expected = self._signature(method, target, headers, body, access_key, account, call, signed)
            call.verdict = "ok" if expected == parts["Signature"] else "signature mismatch"
        return access_key, call

    def _signature(
        self,
        method: str,
        target: str,
        headers: dict[str, str],
        body: bytes,
        access_key: str,
        account: Account,
        call: Call,
        signed: list[str],
    ) -> str:
        from botocore.auth import S3SigV4Auth, SigV4Auth
        from botocore.awsrequest import AWSRequest
        from botocore.credentials import Credentials

        kind = S3SigV4Auth if call.service == "s3" else SigV4Auth
        credentials = Credentials(access_key, account.secret_key, account.session_token)
        oracle = kind(credentials, call.service, call.region)
        request = AWSRequest(
            method=method,
            url=f"http://{headers['host']}{target}",
            data=body,
            headers={name: headers[name] for name in signed},
        )
        request.context["timestamp"] = headers["x-amz-date"]
        text = oracle.string_to_sign(request, oracle.canonical_request(request))
        return oracle.signature(text, request)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    owner: Aws

    def log_message(self, *_: object) -> None:
        pass

    def _answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length") or 0))
        headers = {n.lower(): v for n, v in self.headers.items()}
        access_key, call = self.owner.judge(self.command, self.path, headers, body)
        self.owner.record(access_key, call)
        if call.verdict != "ok":
            self._reply(403, _s3_error("SignatureDoesNotMatch"))
        elif urlsplit(self.path).path.startswith("/denied"):
            self._reply(403, _s3_error("AccessDenied"))
        else:
            self._reply(200, IDENTITY if call.service == "sts" else BUCKETS)

    do_GET = do_POST = do_PUT = do_DELETE = do_HEAD = _answer

    def _reply(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "application/xml")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)
