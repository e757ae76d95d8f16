"""Requests of an attacker against a provider of jobs: forged, replayed, misdirected, malformed.

Each is made from a seed and what the attacker may know: the addresses, the ids of jobs and assets,
and every request that its victim sent so far, as they went over the wire.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from random import Random
from urllib.parse import parse_qsl, quote, urlencode

from requestor_sdk.ocean.messages import (
    Command,
    checksummed,
    command_text,
    job_text,
    result_text,
    signature_of,
    token_text,
)
from requestor_sdk.signing import EthSigner

API = "/api/services"
ORDER = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
RAWCODE = "print('of the attacker')"
CONTAINER = {"entrypoint": "python3 $ALGO", "image": "python", "tag": "3.11", "checksum": ""}
Query = Mapping[str, object]


@dataclass(frozen=True, slots=True, kw_only=True)
class Shot:
    """One request.

    Attributes:
        kind: What it tries.
        raw: All that is sent.
        acts: Whether an answer of 2xx means that it got in.
        half: Whether it is not whole, so that no answer need come before the connection is closed.
    """

    kind: str
    raw: bytes
    acts: bool = True
    half: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """What the attacker knows.

    Attributes:
        victim: The address.
        jobs: Ids of the victim's jobs.
        nonce: The victim's last one: anybody may ask for it.
        sent: What the victim sent: all of it was answered, so that none of it may act again.
        assets: Ids of assets, with those of their services.
    """

    victim: str
    jobs: Sequence[str]
    nonce: int
    sent: Sequence[bytes]
    assets: Sequence[tuple[str, str]] = ()


@dataclass(slots=True)
class Caller:
    """Somebody who signs, correctly."""

    signer: EthSigner = field(default_factory=EthSigner.ephemeral)
    nonce: int = 0

    @property
    def address(self) -> str:
        return checksummed(self.signer.identity)

    def says(self, text: Callable[[str, str], str], address: str = "") -> dict[str, object]:
        """Return the fields that go with a signature of a text made of an address and a nonce."""
        self.nonce += 1
        claimed, nonce = address or self.address, str(self.nonce)
        signature = signature_of(self.signer, text(claimed, nonce))
        return {"consumerAddress": claimed, "nonce": nonce, "signature": signature}

    def commands(self, command: Command) -> dict[str, object]:
        return self.says(lambda address, nonce: command_text(address, nonce, command))


def request(
    method: str,
    path: str,
    *,
    query: Query | None = None,
    body: object = None,
    headers: Mapping[str, str] | None = None,
) -> bytes:
    """Return a request as it is sent; a body that is no bytes is sent as JSON."""
    target = path if query is None else f"{path}?{urlencode(query, errors='surrogatepass')}"
    content = b""
    all_headers = {"Host": "127.0.0.1", **(headers or {})}
    if body is not None:
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        all_headers = {"Content-Type": "application/json", **all_headers}
        all_headers.setdefault("Content-Length", str(len(content)))
    head = "".join(f"{name}: {value}\r\n" for name, value in all_headers.items())
    return f"{method} {target} HTTP/1.1\r\n{head}\r\n".encode("utf-8", "surrogatepass") + content


def start_body(signed: Query, **more: object) -> dict[str, object]:
    """Return the body that starts a job of raw code for free."""
    meta = {"rawcode": RAWCODE, "language": "python", "version": "0.1", "container": CONTAINER}
    return {**signed, "environment": "", "datasets": [], "algorithm": {"meta": meta}, **more}


class Attacker:
    """Makes requests from a seed."""

    def __init__(self, seed: int, known: Known) -> None:
        self._random = Random(seed)
        self._known = known
        self._kinds: tuple[Callable[[], Shot], ...] = (
            self._forged,
            self._forged,
            self._replayed,
            self._read_otherwise,
            self._misdirected,
            self._misdirected,
            self._token,
            self._path_trick,
            self._odd_value,
            self._odd_json,
            self._oversized,
            self._malformed,
            self._fetcher,
            self._worker,
        )

    def shot(self) -> Shot:
        """Return the next request."""
        return self._random.choice(self._kinds)()

    def _one(self, *choices: object) -> object:
        return self._random.choice(choices)

    def _text(self, *choices: str) -> str:
        return self._random.choice(choices)

    def _hex(self, digits: int) -> str:
        return "".join(self._random.choices("0123456789abcdef", k=digits))

    def _acting(self, signed: Query, job_id: str) -> bytes:
        """Return any call that needs a signature, on a job of the victim."""
        query: dict[str, object] = {**signed, "jobId": job_id, "documentId": "", "index": "0"}
        return self._random.choice(
            (
                request("PUT", f"{API}/compute", query=query),
                request("DELETE", f"{API}/compute", query=query),
                request("PUT", f"{API}/compute", body=query),
                request("DELETE", f"{API}/compute", body=query),
                request("GET", f"{API}/computeResult", query=query),
                request("GET", f"{API}/computeStreamableLogs", query=query),
                request("POST", f"{API}/compute", body=start_body(query)),
                request("POST", f"{API}/freeCompute", body=start_body(signed)),
                request("POST", f"{API}/auth/token", body={**signed, "address": self._victim}),
                request("GET", f"{API}/createAuthToken", query={**signed, "address": self._victim}),
            )
        )

    @property
    def _victim(self) -> str:
        """The victim's address, in one of the ways to write it."""
        plain = self._known.victim
        return self._text(plain, plain.lower(), "0x" + plain[2:].upper())

    @property
    def _job(self) -> str:
        return self._random.choice(list(self._known.jobs))

    @property
    def _next_nonce(self) -> str:
        return str(self._known.nonce + self._random.choice((1, 1, 2, 10**6)))

    def _messages(self, address: str, job_id: str, nonce: str) -> tuple[str, ...]:
        commands = tuple(command_text(address, nonce, one) for one in Command)
        return (
            *commands,
            job_text(address, job_id, "", nonce),
            result_text(address, job_id, "0", nonce),
            token_text(address, nonce),
        )

    def _forged(self) -> Shot:
        """The victim's address, a nonce that would do, and a signature that is not the victim's."""
        address, nonce, job_id = self._victim, self._next_nonce, self._job
        text = self._random.choice(self._messages(address, job_id, nonce))
        other = signature_of(EthSigner.ephemeral(), text)
        r, s = int(other[2:66], 16), int(other[66:130], 16)
        signature = self._one(
            other,
            other[:-2] + self._text("00", "01", "1b", "1c", "02", "1d", "ff", "25", "26"),
            f"0x{r:064x}{ORDER - s:064x}" + self._text("1b", "1c"),
            "0x" + self._hex(130),
            "0x" + "00" * 65,
            "0x" + "ff" * 65,
            f"0x{ORDER:064x}{ORDER:064x}1b",
            f"0x{r:064x}{'0' * 64}1b",
            other[2:],
            other[:-1],
            other + "00",
            "0x" + self._hex(self._random.randrange(0, 400)),
            "",
            "0x",
            " " + other,
            other.replace("0x", "0X"),
            "null",
            "ñ" * 65,
            "\uff10x" + other[2:],
            self._victim,
            None,
            [other],
            {"r": other},
            0,
            True,
        )
        signed = {"consumerAddress": address, "nonce": nonce, "signature": signature}
        return Shot(kind="forged", raw=self._acting(signed, job_id))

    def _replayed(self) -> Shot:
        """Something that the victim sent, as it was, or with a part of it written another way."""
        sent = self._random.choice(list(self._known.sent))
        head, _, body = sent.partition(b"\r\n\r\n")
        old = self._known.victim.encode()
        change = self._random.randrange(4)
        if change == 1:
            head, body = head.replace(old, old.lower()), body.replace(old, old.lower())
        elif change == 2:
            nonce = str(self._random.randint(1, self._known.nonce)).encode()
            wanted = self._text(
                f"{self._known.nonce + 1}", "0{}", "+{}", "{}.0", "{}.9", " {}", "{}e0", "1e9"
            )
            new = wanted.replace("{}", nonce.decode()).encode()
            quoted = quote(new.decode()).encode()
            head = head.replace(b"nonce=" + nonce + b"&", b"nonce=" + quoted + b"&")
            body = body.replace(b'"nonce": "' + nonce + b'"', b'"nonce": "' + new + b'"')
        elif change == 3:
            method, _, rest = head.partition(b" ")
            swapped = {b"PUT": b"DELETE", b"DELETE": b"PUT"}
            head = swapped.get(method, method) + b" " + rest
        lines = [line for line in head.split(b"\r\n") if not line.startswith(b"Content-Length")]
        if body:
            lines.append(b"Content-Length: %d" % len(body))
        return Shot(kind="replayed", raw=b"\r\n".join(lines) + b"\r\n\r\n" + body)

    def _read_otherwise(self) -> Shot:
        """What was signed to fetch a result, as if it had been signed for another call.

        A classic message joins its parts with nothing between them: result 1 with nonce 5 is the
        same text as no result with nonce 15.
        """
        fetches = [one for one in self._known.sent if b"/computeResult?" in one]
        target = self._random.choice(fetches).split(b" ", 2)[1].decode()
        said = dict(parse_qsl(target.partition("?")[2]))
        joined = said["index"] + said["nonce"]
        cut = self._random.randrange(1, len(joined) + 1)
        signed = {key: said[key] for key in ("consumerAddress", "signature")}
        again: dict[str, object] = {
            **signed,
            "jobId": said["jobId"],
            "index": joined[: len(joined) - cut],
            "documentId": joined[: len(joined) - cut],
            "nonce": joined[len(joined) - cut :],
        }
        method = self._text("PUT", "DELETE", "GET")
        path = "computeResult" if method == "GET" else "compute"
        return Shot(kind="otherwise", raw=request(method, f"{API}/{path}", query=again))

    def _misdirected(self) -> Shot:
        """The attacker's own good signature, on the victim's job."""
        caller, job_id = Caller(), self._job
        did = self._text("", self._random.choice(self._known.assets)[0])
        calls: tuple[Callable[[], tuple[str, str, Query]], ...] = (
            lambda: ("PUT", "compute", caller.commands(Command.stop)),
            lambda: ("DELETE", "compute", caller.commands(Command.stop)),
            lambda: ("PUT", "compute", caller.says(lambda a, n: job_text(a, job_id, did, n))),
            lambda: ("DELETE", "compute", caller.says(lambda a, n: job_text(a, job_id, did, n))),
            lambda: ("GET", "computeResult", caller.commands(Command.result)),
            lambda: ("GET", "computeResult", caller.says(lambda a, n: f"{a}{job_id}0{n}")),
            lambda: ("GET", "computeStreamableLogs", caller.commands(Command.logs)),
            # Who signed is one, and whose job it is meant to be is another.
            lambda: (
                "DELETE",
                "compute",
                {**caller.commands(Command.stop), "consumerAddress": self._victim},
            ),
            lambda: (
                "GET",
                "computeResult",
                caller.says(
                    lambda a, n: command_text(a, n, Command.result), address=self._known.victim
                ),
            ),
        )
        method, path, signed = self._random.choice(calls)()
        query: dict[str, object] = {**signed, "jobId": job_id, "index": "0"}
        if did:
            query["documentId"] = did
        if self._random.random() < 0.2:
            doubled = f"{urlencode(query)}&consumerAddress={self._victim}&jobId={self._job}"
            return Shot(kind="misdirected", raw=request(method, f"{API}/{path}?{doubled}"))
        if method in ("PUT", "DELETE") and self._random.random() < 0.3:
            both = {"consumerAddress": self._victim, "jobId": self._job}
            raw = request(method, f"{API}/{path}", query=query, body=both)
            return Shot(kind="misdirected", raw=raw)
        return Shot(kind="misdirected", raw=request(method, f"{API}/{path}", query=query))

    def _token(self) -> Shot:
        """A token that is made up, another's, or none."""
        token = self._text(
            self._hex(64),
            "Bearer " + self._hex(64),
            "",
            "null",
            "eyJhbGciOiJub25lIn0.eyJhZGRyZXNzIjoi" + self._hex(20) + ".",
            "' OR 1=1 --",
            "x" * 5000,
            "%s%n%00",
        )
        header = self._text("Authorization", "AuthToken", "authorization")
        query = {"consumerAddress": self._victim, "jobId": self._job, "index": "0"}
        if self._random.random() < 0.5:
            query["nonce"] = self._next_nonce
        method, path = self._random.choice(
            (
                ("GET", "computeResult"),
                ("GET", "computeStreamableLogs"),
                ("PUT", "compute"),
                ("DELETE", "compute"),
                ("DELETE", "deleteAuthToken"),
            )
        )
        raw = request(method, f"{API}/{path}", query=query, headers={header: token})
        return Shot(kind="token", raw=raw)

    def _path_trick(self) -> Shot:
        """Ways out of the folders that names stand for."""
        out = self._text(
            "../../../../etc/passwd",
            "..%2f..%2f..%2fetc%2fpasswd",
            "%2e%2e/%2e%2e/etc/passwd",
            "/etc/passwd",
            "....//....//etc/passwd",
            "..\\..\\etc\\passwd",
            "file:///etc/passwd",
            "\0",
            "%00",
            "a" * 4000,
            ".",
            "..",
            f"{self._job}/../{self._job}",
            f"{self._job}\0",
            f"{self._job}%00",
            f"{self._job} ",
        )
        caller = Caller()
        query = {**caller.commands(Command.result), "jobId": out, "index": "0"}
        wrong_index = {**query, "jobId": self._job, "index": out}
        return self._random.choice(
            (
                lambda: Shot(kind="path", raw=request("GET", f"{API}/computeResult", query=query)),
                lambda: Shot(
                    kind="path", raw=request("GET", f"{API}/computeResult", query=wrong_index)
                ),
                lambda: Shot(
                    kind="path",
                    raw=request("GET", f"/api/aquarius/assets/ddo/{quote(out, safe='/%')}"),
                ),
                lambda: Shot(kind="path", raw=request("GET", f"{API}/{quote(out, safe='/%')}")),
                lambda: Shot(kind="path", raw=request("GET", f"/{quote(out, safe='/%')}")),
                lambda: Shot(
                    kind="path",
                    raw=request("DELETE", f"{API}/compute", query={**query, "documentId": out}),
                ),
                lambda: Shot(
                    kind="path",
                    raw=request(
                        "POST",
                        f"{API}/compute",
                        body=start_body(
                            caller.says(lambda a, n: f"{a}{out}{n}"),
                            datasets=[{"documentId": out, "serviceId": out}],
                        ),
                    ),
                ),
            )
        )()

    def _odd_value(self) -> Shot:
        """Values that are none of what a field has, in a call that needs no signature."""
        odd = self._text(
            "", "0", "-1", "1e400", "NaN", "true", "[]", "{}", "null", "0x", "0x" + "g" * 40,
            "' OR '1'='1", "\ud800", "\u202e", "\U0001d7d9", "\u0661",
            "1" * 5000, "{{7*7}}", "${jndi:x}", "%",
        )  # fmt: skip
        path, fields = self._random.choice(
            (
                ("computeEnvironments", ("chainId", "node")),
                ("nonce", ("userAddress",)),
                ("compute", ("consumerAddress", "jobId", "documentId", "agreementId", "wait")),
                ("fileinfo", ("did", "serviceId")),
            )
        )
        chosen = self._random.sample(fields, self._random.randint(1, len(fields)))
        raw = request("GET", f"{API}/{path}", query=dict.fromkeys(chosen, odd))
        return Shot(kind="value", raw=raw, acts=False)

    def _odd_json(self) -> Shot:
        """JSON that is none of what is meant, or no JSON."""
        odd = self._one(
            None,
            True,
            0,
            -1,
            10**30,
            1e308,
            "",
            "x" * 1000,
            [],
            {},
            [[]],
            {"a": {}},
            "\0",
            "\ud800",
        )
        names = ("consumerAddress", "nonce", "signature", "environment", "datasets", "dataset",
                 "algorithm", "maxJobDuration", "payment", "metadata", "additionalDatasets",
                 "queueMaxWaitTime", "output", "resources")  # fmt: skip
        body = start_body(Caller().commands(Command.free_start))
        for name in self._random.sample(names, self._random.randint(1, 3)):
            body[name] = odd
        algorithm = {"meta": {"rawcode": odd, "container": odd, "consumerParameters": odd}}
        content = self._random.choice(
            (
                json.dumps(body).encode(),
                json.dumps({**body, "algorithm": algorithm}).encode(),
                json.dumps(odd).encode(),
                b"[" * 50_000,
                b'{"a":' * 20_000,
                b'{"consumerAddress": ' + b"9" * 20_000 + b"}",
                b'{"nonce": NaN, "consumerAddress": Infinity}',
                b"\xff\xfe\x00",
                b"",
                b"null",
                json.dumps(body).encode("utf-16"),
                json.dumps(body).encode()[:-3],
            )
        )
        path = self._text(
            "compute", "freeCompute", "initializeCompute", "fileinfo", "auth/token",
            "auth/token/invalidate",
        )  # fmt: skip
        # Its own job may start, where what was changed is of no weight.
        own = path in ("compute", "freeCompute", "initializeCompute", "fileinfo")
        return Shot(kind="json", raw=request("POST", f"{API}/{path}", body=content), acts=not own)

    def _oversized(self) -> Shot:
        """Bodies and heads that are too large, or say that they are."""
        path = f"{API}/{self._text('compute', 'freeCompute', 'fileinfo', 'auth/token')}"
        huge = {"Content-Length": str(10**12)}
        chunked = {"Transfer-Encoding": "chunked", "Content-Length": ""}
        raw, half = self._random.choice(
            (
                lambda: (request("POST", path, body=b"{", headers=huge), True),
                lambda: (request("POST", path, body=b'{"a": "' + b"x" * 3_000_000 + b'"}'), False),
                lambda: (request("GET", path + "?a=" + "b" * 200_000), False),
                lambda: (request("GET", path, headers={"X-A": "b" * 200_000}), False),
                lambda: (request("GET", path, headers={f"X-{n}": "b" for n in range(5000)}), False),
                lambda: (
                    request("POST", path, headers=chunked).replace(b"Content-Length: \r\n", b"")
                    + b"100000\r\n"
                    + b"x" * 0x100000
                    + b"\r\n",
                    True,
                ),
            )
        )()
        return Shot(kind="oversized", raw=raw, half=half)

    def _malformed(self) -> Shot:
        """What is no HTTP, or is read as two things by two readers."""
        good = request("GET", f"{API}/computeEnvironments")
        smuggled = request("GET", f"{API}/nonce?userAddress={self._known.victim}")
        both = {"Content-Length": "4", "Transfer-Encoding": "chunked"}
        raw = self._random.choice(
            (
                b"\0" * 100,
                b"GET\r\n\r\n",
                b"GET / HTTP/9.9\r\n\r\n",
                b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
                b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
                good.replace(b"Host: 127.0.0.1\r\n", b""),
                good.replace(b"HTTP/1.1", b"HTTP/1.0"),
                good.replace(b"\r\n", b"\n"),
                good.replace(b"Host", b"Host: a\r\nHost"),
                good[: self._random.randrange(1, len(good))],
                request("POST", f"{API}/compute", body=b"0\r\n\r\n" + smuggled, headers=both),
                request("POST", f"{API}/compute", body=b"{}", headers={"Content-Length": "-1"}),
                request("POST", f"{API}/compute", body=b"{}", headers={"Content-Length": "1e1"}),
                request("TRACE", f"{API}/compute"),
                request("OPTIONS", "*"),
                request("CONNECT", "127.0.0.1:22"),
                request("GET", "http://127.0.0.1:22/"),
                request(
                    "POST", f"{API}/compute", headers={"Content-Encoding": "gzip"}, body=b"\x1f"
                ),
                request("GET", f"{API}/computeResult", headers={"Range": "bytes=0-0,1-1," * 500}),
            )
        )
        return Shot(kind="malformed", raw=raw, acts=False, half=True)

    def _fetcher(self) -> Shot:
        """Have the provider fetch from where only it can, or read its own disk."""
        url = self._text(
            "http://127.0.0.1:{port}/", "http://localhost:{port}/", "http://[::1]:{port}/",
            "http://0.0.0.0:{port}/", "http://2130706433:{port}/", "http://0177.0.0.1:{port}/",
            "http://169.254.169.254/latest/meta-data/", "http://[::ffff:127.0.0.1]:{port}/",
            "http://a@127.0.0.1:{port}/", "file:///etc/passwd", "ftp://127.0.0.1/", "gopher://127.0.0.1",
            "//127.0.0.1/", "http:///etc/passwd", "http://", "http://127.1:{port}/",
        ).replace("{port}", "9")  # fmt: skip
        file = self._one(
            {"type": "url", "url": url, "method": "GET"},
            {"type": "localfile", "path": "/etc/passwd"},
            {"type": "raw", "text": "x"},
            {"type": "ipfs", "hash": "../../etc/passwd"},
            {"type": "s3", "s3Access": {"endpoint": url}},
            {"url": url},
        )
        meta = {"url": url, "language": "python", "version": "1", "container": CONTAINER}
        signed = Caller().commands(Command.free_start)
        if self._random.random() < 0.3:
            body = {**start_body(signed), "algorithm": {"meta": meta}}
            # It may be taken on: it fails while the algorithm is fetched.
            return Shot(
                kind="fetch", raw=request("POST", f"{API}/freeCompute", body=body), acts=False
            )
        return Shot(kind="fetch", raw=request("POST", f"{API}/fileinfo", body=file), acts=False)

    def _worker(self) -> Shot:
        """The worker API, without a worker's token."""
        path = self._text(
            "heartbeat", "claim", "renew", "release", "event", "log", "complete", "fetch", "upload",
            "runs", f"runs/{self._job}", f"runs/{self._job}/log", "openapi.json", "../v1/claim",
        )  # fmt: skip
        token = self._text("", "Bearer ", "Bearer " + self._hex(64), "Basic YTpi", self._hex(64))
        headers = {"Authorization": token} if token else {}
        method = self._text("GET", "POST", "PUT")
        body = {"worker_id": "w", "session": "s", "claim_id": "c", "wait": 0}
        raw = request(method, f"/worker/v1/{path}", body=body, headers=headers)
        return Shot(kind="worker", raw=raw)
