"""Names of properties, and payloads as dataclasses of properties and constraints.

Source of the names: Golem's standard properties (``golem.inf``, ``golem.srv``, ``golem.node``).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, Final, Literal

from requestor_sdk.model.errors import PayloadError

INF_MEM: Final = "golem.inf.mem.gib"
INF_STORAGE: Final = "golem.inf.storage.gib"
INF_CORES: Final = "golem.inf.cpu.cores"
INF_THREADS: Final = "golem.inf.cpu.threads"
RUNTIME_NAME: Final = "golem.runtime.name"
RUNTIME_CAPABILITIES: Final = "golem.runtime.capabilities"
TASK_PACKAGE: Final = "golem.srv.comp.task_package"
PACKAGE_FORMAT: Final = "golem.srv.comp.vm.package_format"
EXPIRATION: Final = "golem.srv.comp.expiration"
NODE_NAME: Final = "golem.node.id.name"
SUBNET: Final = "golem.node.debug.subnet"
DEBIT_NOTE_INTERVAL: Final = "golem.com.scheme.payu.debit-note.interval-sec?"
ACCEPT_TIMEOUT: Final = "golem.com.payment.debit-notes.accept-timeout?"
PAYMENT_TIMEOUT: Final = "golem.com.scheme.payu.payment-timeout-sec?"
MULTI_ACTIVITY: Final = "golem.srv.caps.multi-activity"
PAYMENT_PLATFORM: Final = "golem.com.payment.chosen-platform"

Operator = Literal["=", "!=", ">", ">=", "<", "<="]

_KEY: Final = "requestor_sdk.key"
_OPERATOR: Final = "requestor_sdk.operator"


def prop(key: str, *, default: Any = dataclasses.MISSING) -> Any:
    """Declare a dataclass field that becomes a property of the demand.

    A field that is ``None`` is left out.

    Args:
        key: The dotted name of the property.
        default: As for ``dataclasses.field``.
    """
    return dataclasses.field(default=default, metadata={_KEY: key})


def constraint(key: str, operator: Operator = "=", *, default: Any = dataclasses.MISSING) -> Any:
    """Declare a dataclass field that becomes a constraint on offers.

    A field that is ``None`` is left out; a list demands each of its members.

    Args:
        key: The dotted name of the offer's property.
        operator: How the offer's value is compared with the field's.
        default: As for ``dataclasses.field``.
    """
    if operator not in ("=", "!=", ">", ">=", "<", "<="):
        raise PayloadError(f"constraint on {key}: {operator!r} is no operator")
    return dataclasses.field(default=default, metadata={_KEY: key, _OPERATOR: operator})


@dataclasses.dataclass(kw_only=True)
class Payload:
    """What is to run: a dataclass whose fields are properties and constraints.

    Subclass it as a dataclass with fields declared by ``prop()`` and ``constraint()``.
    """

    def properties(self) -> dict[str, object]:
        """Return the properties that the demand gets from this payload."""
        return {
            field.metadata[_KEY]: value
            for field, value in self._declared()
            if _OPERATOR not in field.metadata
        }

    def constraints(self) -> str:
        """Return the constraints on offers as one filter."""
        clauses = [
            f"({field.metadata[_KEY]}{field.metadata[_OPERATOR]}{_text(member)})"
            for field, value in self._declared()
            if _OPERATOR in field.metadata
            for member in (value if isinstance(value, list | tuple) else (value,))
        ]
        return clauses[0] if len(clauses) == 1 else f"(&{''.join(clauses)})"

    def _declared(self) -> list[tuple[dataclasses.Field[Any], Any]]:
        rows = [(field, getattr(self, field.name)) for field in dataclasses.fields(self)]
        return [(f, value) for f, value in rows if _KEY in f.metadata and value is not None]


@dataclasses.dataclass(kw_only=True)
class VmPayload(Payload):
    """A payload of the standard VM runtime; made by ``vm.repo``.

    Attributes:
        image_hash: sha3-224 of the image, 56 hex digits.
        image_tag: Its name, instead of the hash.
        image_url: Where a provider can fetch it; needed only outside ``local``.
        min_mem_gib: GiB of memory at least.
        min_storage_gib: GiB of storage at least.
        min_cpu_threads: Threads at least.
        capabilities: What the runtime must be able to do, e.g. ``["vpn"]``, ``["inet"]``.
        runtime: The runtime's name.
        package_format: How the image is packed.
    """

    image_hash: str | None = None
    image_tag: str | None = None
    image_url: str | None = None
    min_mem_gib: float = constraint(INF_MEM, ">=", default=0.5)
    min_storage_gib: float = constraint(INF_STORAGE, ">=", default=2.0)
    min_cpu_threads: int = constraint(INF_THREADS, ">=", default=1)
    capabilities: list[str] | None = constraint(RUNTIME_CAPABILITIES, default=None)
    runtime: str = constraint(RUNTIME_NAME, default="vm")
    package_format: str = prop(PACKAGE_FORMAT, default="gvmkit-squash")

    def properties(self) -> dict[str, object]:
        """Return the properties, the task package among them (``hash:sha3:HASH[:URL]``)."""
        found = super().properties()
        if self.image_hash:
            url = f":{self.image_url}" if self.image_url else ""
            found[TASK_PACKAGE] = f"hash:sha3:{self.image_hash}{url}"
        elif self.image_url:
            found[TASK_PACKAGE] = self.image_url
        return found


def image_hash_of(properties: Mapping[str, object]) -> str | None:
    """Return the image hash that a demand's task package names, if it names one."""
    package = properties.get(TASK_PACKAGE)
    if not isinstance(package, str) or not package.startswith("hash:"):
        return None
    parts = package.split(":", 3)
    return parts[2] if len(parts) > 2 else None


def image_url_of(properties: Mapping[str, object]) -> str | None:
    """Return where a demand's task package says that its image can be fetched."""
    package = properties.get(TASK_PACKAGE)
    if not isinstance(package, str) or not package.startswith("hash:"):
        return None
    parts = package.split(":", 3)
    return parts[3] if len(parts) > 3 and parts[3] else None


def _text(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    text = str(value)
    if any(mark in text for mark in "()\n"):
        raise PayloadError(f"a constraint's value cannot hold brackets or line ends: {text!r}")
    return text


def joined(*filters: str) -> str:
    """Return the filter that holds where all of these do."""
    parts = [text for text in filters if text not in ("", "()", "(&)")]
    return parts[0] if len(parts) == 1 else f"(&{''.join(parts)})" if parts else "()"
