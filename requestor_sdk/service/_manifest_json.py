"""Manifests as JSON: reads what strangers wrote, strictly, and writes what yagna reads."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final, TypeVar

from requestor_sdk.model.errors import ManifestInvalid
from requestor_sdk.model.parsing import parse_json

if TYPE_CHECKING:
    from requestor_sdk.service.manifest import Manifest, ManifestPayload, Outbound

_T = TypeVar("_T")

MANIFEST: Final = "golem.srv.comp.payload"
SIGNATURE: Final = "golem.srv.comp.payload.sig"
ALGORITHM: Final = "golem.srv.comp.payload.sig.algorithm"
CERTIFICATE: Final = "golem.srv.comp.payload.cert"
NODE_DESCRIPTOR: Final = "golem.!exp.gap-31.v0.node.descriptor"
PROPERTIES: Final = (MANIFEST, SIGNATURE, ALGORITHM, CERTIFICATE)
"""The properties that carry a manifest, in the order of ``SignedManifest``'s fields."""

MOST_COMMANDS: Final = 128
"""Commands of the longest script of rules that is read."""

_PROTOCOLS: Final = ("http", "https", "ws", "wss")
_SEMVER: Final = re.compile(r"[0-9]+\.[0-9]+\.[0-9]+(?:[-+][0-9A-Za-z.+-]+)?")


def write(manifest: Manifest) -> str:
    """Return a manifest as JSON."""
    comp: dict[str, object] = {"version": manifest.version}
    if manifest.script is not None:
        comp["script"] = {
            "commands": list(manifest.script.commands),
            "match": manifest.script.match,
        }
    if manifest.outbound is not None:
        comp["net"] = {"inet": {"out": _outbound(manifest.outbound)}}
    told = {
        "version": manifest.version,
        "createdAt": _time(manifest.created_at),
        "expiresAt": _time(manifest.expires_at),
        "metadata": dict(manifest.metadata) or None,
        "payload": [_payload(one) for one in manifest.payload],
        "compManifest": comp,
    }
    return json.dumps({key: value for key, value in told.items() if value is not None}, indent=2)


def _time(value: datetime) -> str:
    return value.isoformat().replace("+00:00", "Z")


def _outbound(out: Outbound) -> dict[str, object]:
    # Yagna wants this shape; a mere `true`, which yapapi 0.13 writes, it cannot read.
    access: dict[str, object] = {"unrestricted": {"urls": True}}
    return {
        "protocols": list(out.protocols),
        **(access if out.unrestricted else {"urls": list(out.urls)}),
    }


def _payload(one: ManifestPayload) -> dict[str, object]:
    platform = {"platform": {"arch": one.arch, "os": one.os}} if one.arch and one.os else {}
    return {**platform, "urls": list(one.urls), "hash": one.hash}


def read(text: str | bytes) -> dict[str, Any]:
    """Return the fields of a ``Manifest``, those of nested values as dictionaries.

    Raises:
        ManifestInvalid: It is no manifest.
    """
    try:
        told = parse_json(text)
    except ValueError:
        raise ManifestInvalid("the manifest is no JSON") from None
    whole = _object(told, "the manifest")
    payload = [_read_payload(one) for one in _list(whole.get("payload"), "payload")]
    if not payload:
        raise ManifestInvalid("the manifest has no payload")
    comp = _object(whole.get("compManifest") or {}, "compManifest")
    net = _object(comp.get("net") or {}, "net")
    inet = _object(net.get("inet") or {}, "inet")
    script, out = comp.get("script"), inet.get("out")
    return {
        "payload": payload,
        "created_at": _read_time(whole, "createdAt"),
        "expires_at": _read_time(whole, "expiresAt"),
        "version": _read_version(whole),
        "metadata": dict(_object(whole.get("metadata") or {}, "metadata")),
        "script": None if script is None else _read_script(_object(script, "script")),
        "outbound": None if out is None else _read_outbound(_object(out, "out")),
    }


def _read_version(whole: dict[str, Any]) -> str:
    version = _text(whole.get("version"), "version")
    if not _SEMVER.fullmatch(version):
        raise ManifestInvalid(f"the manifest's version must be like 0.1.0, not {version[:40]!r}")
    return version


def _read_time(whole: dict[str, Any], name: str) -> datetime:
    try:
        found = datetime.fromisoformat(_text(whole.get(name), name))
    except ValueError:
        found = None
    if found is None or found.tzinfo is None:
        raise ManifestInvalid(f"{name} of the manifest is no time with a zone")
    return found


def _read_payload(value: object) -> dict[str, Any]:
    one = _object(value, "a payload")
    platform = _object(one.get("platform") or {}, "platform")
    arch, system = platform.get("arch"), platform.get("os")
    return {
        "hash": _text(one.get("hash"), "hash"),
        "urls": _texts(one.get("urls"), "urls"),
        "arch": None if arch is None else _text(arch, "arch"),
        "os": None if system is None else _text(system, "os"),
    }


def _read_script(script: dict[str, Any]) -> dict[str, Any]:
    match = script.get("match", "strict")
    if match not in ("strict", "regex"):
        raise ManifestInvalid("match of the manifest's script is neither 'strict' nor 'regex'")
    commands = _texts(script.get("commands"), "commands")
    if len(commands) > MOST_COMMANDS:
        raise ManifestInvalid(f"the manifest's script has more than {MOST_COMMANDS} commands")
    return {"commands": commands, "match": match}


def _read_outbound(out: dict[str, Any]) -> dict[str, Any]:
    protocols = _texts(out.get("protocols", list(_PROTOCOLS)), "protocols")
    if out.get("urls") is not None:
        return {"urls": _texts(out["urls"], "urls"), "protocols": protocols}
    if out.get("unrestricted") != {"urls": True}:
        raise ManifestInvalid('outbound access is by "urls" or by "unrestricted": {"urls": true}')
    return {"unrestricted": True, "protocols": protocols}


def rule(written: str, verb: str, match: str) -> tuple[str, str] | None:
    """Return a command of a manifest as text and how it is compared, where it is of this verb."""
    try:
        told = parse_json(written)
    except ValueError:
        return (written, match) if written.startswith(verb) else None
    found = told.get(verb) if isinstance(told, dict) else None
    if not isinstance(found, dict):
        return None
    own = found.get("match", match)
    how = own if own in ("strict", "regex") else match
    if verb == "transfer":
        source, target = found.get("from"), found.get("to")
        both = isinstance(source, str) and isinstance(target, str)
        return (f"transfer {source} {target}", how) if both else None
    args = found.get("args")
    if isinstance(args, list) and all(isinstance(one, str) for one in args):
        args = " ".join(args)
    return (f"run {args}", how) if isinstance(args, str) else None


def _checked(kind: type[_T], told: str) -> Callable[[object, str], _T]:
    def check(value: object, what: str) -> _T:
        if not isinstance(value, kind):
            raise ManifestInvalid(f"{what} is no {told}")
        return value

    return check


_object: Callable[[object, str], dict[str, Any]] = _checked(dict, "object of the manifest")
_list: Callable[[object, str], list[Any]] = _checked(list, "list in the manifest")
_text = _checked(str, "text in the manifest")


def _texts(value: object, what: str) -> tuple[str, ...]:
    return tuple(_text(one, f"one of {what}") for one in _list(value, what))
