"""The daemon's data folder with the identities that take part, made once and copied for each start.

An identity that is made while the daemon runs cannot be negotiated with before the daemon is
started again; so they are made by a daemon of their own, whose folder is kept.
"""

from __future__ import annotations

import hashlib
import json
import secrets
import shutil
import tempfile
from pathlib import Path
from typing import Any, Final

from requestor_sdk.devnet._chain import DevnetChain, payments_config
from requestor_sdk.devnet._daemon import DaemonProcess
from requestor_sdk.devnet._plan import Identity, Plan, write_private
from requestor_sdk.golem import Daemon
from requestor_sdk.model.errors import BadAnswer, DevnetFailed

_KEYS: Final = "identities.json"
_DATA: Final = "data"
_EACH: Final = 4
"""Identities are made by as many: networks of one to four providers share what is kept."""
REQUESTOR: Final = "requestor"
_NOWHERE: Final = "http://127.0.0.1:9"
_NO_TOKEN: Final = f"0x{1:040x}"


async def provision(plan: Plan, sockets: Path, into: Path) -> tuple[Identity, tuple[Identity, ...]]:
    """Lay a fresh data folder at ``into``, and return the requestor and the providers in it.

    Raises:
        DevnetFailed: The daemon that makes the identities failed.
    """
    template = plan.templates / _name(plan)
    known = _known(template)
    if known is None:
        shutil.rmtree(template, ignore_errors=True)  # another version of this package kept it
        await _make(plan, sockets, template)
        known = _known(template)
    if known is None:
        raise DevnetFailed(f"the identities in {template} cannot be read", hint="remove it")
    _lay(template, into)
    return known[0], tuple(known[1 : 1 + plan.identities])


def _lay(template: Path, into: Path) -> None:
    shutil.copytree(template / _DATA, into)
    into.chmod(0o700)


def _known(template: Path) -> list[Identity] | None:
    """Return the identities of a folder that is kept; ``None`` where there are none."""
    try:
        return [Identity(**one) for one in json.loads((template / _KEYS).read_text())]
    except (OSError, ValueError, TypeError):
        return None


def lay_payments(data: Path, chain: DevnetChain | None = None) -> None:
    """Tell the daemon of its chain; without one, of one that answers nobody.

    Left to itself the daemon looks up nodes of public chains.
    """
    url, token = (_NOWHERE, _NO_TOKEN) if chain is None else (chain.url, chain.token)
    (data / "config-payments.toml").write_text(payments_config(url, token))


def _made(plan: Plan) -> int:
    """Return how many identities are made: spare ones cost nothing, another folder a start."""
    return max(_EACH, -(-plan.identities // _EACH) * _EACH)


def _name(plan: Plan) -> str:
    """Return a name that differs where the daemon's program or the number of identities does."""
    found = plan.program.resolve().stat()
    stamp = f"{found.st_size}-{found.st_mtime_ns}".encode()
    return f"{hashlib.sha256(stamp).hexdigest()[:12]}-{_made(plan)}"


async def _make(plan: Plan, sockets: Path, template: Path) -> None:
    plan.templates.mkdir(parents=True, exist_ok=True, mode=0o700)
    fresh = Path(tempfile.mkdtemp(prefix="new-", dir=plan.templates))
    try:
        (fresh / _DATA).mkdir(mode=0o700)
        identities = await _identities(plan, sockets, fresh)
        keys = [
            {"name": one.name, "identity": one.identity, "app_key": one.app_key}
            for one in identities
        ]
        write_private(fresh / _KEYS, json.dumps(keys))
        _put(fresh, template)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)


def _put(fresh: Path, template: Path) -> None:
    try:
        fresh.rename(template)
    except OSError:
        if not (template / _KEYS).exists():  # else somebody was quicker
            raise


async def _identities(plan: Plan, sockets: Path, fresh: Path) -> list[Identity]:
    key = secrets.token_hex(16)
    process = DaemonProcess(
        program=plan.program,
        data=fresh / _DATA,
        sockets=sockets,
        app_key=key,
        log=plan.folder / "provisioning.log",
        validate=False,
    )
    try:
        lay_payments(fresh / _DATA)
        await process.start()
        daemon = Daemon(process.config)
        await daemon.open()
        try:
            made = [Identity(name=REQUESTOR, identity=daemon.identity, app_key=key)]
            made += [await _create(daemon, f"provider-{n + 1}") for n in range(_made(plan))]
        finally:
            await daemon.close()
    finally:
        await process.stop()
    return made


async def _create(daemon: Daemon, name: str) -> Identity:
    """Make an identity and a key for it, as `yagna id create` and `yagna app-key create` do.

    They do it by calls on the service bus, which the REST API passes on; a program for each call
    takes twenty times as long.
    """
    who = await _bus(daemon, "identity/CreateGenerated", {"alias": name, "fromKeystore": None})
    identity = str(who["nodeId"])
    wanted = {"name": name, "role": "manager", "identity": identity, "allowOrigins": []}
    key = await _bus(daemon, "appkey/Create", wanted)
    return Identity(name=name, identity=identity, app_key=str(key))


async def _bus(daemon: Daemon, call: str, body: object) -> Any:
    answer = await daemon.call("POST", f"/_gsb/local/{call}", body=body)
    if not isinstance(answer, dict):
        raise BadAnswer(f"the daemon answers {call} with what is no answer")
    if "Ok" not in answer:
        raise DevnetFailed(f"the daemon refuses {call}: {answer.get('Err')}")
    return answer["Ok"]
