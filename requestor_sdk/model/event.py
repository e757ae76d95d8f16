"""What an event is, and its form in a journal: the base of the kinds in ``model.events``."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any, ClassVar, Final

VERSION: Final = 1
"""Version of the journal's form of an event."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """Something that happened.

    Attributes:
        at: When, aware, in UTC.
        kinds: The kinds of events by name.
        durable: Whether a journal must have an event of this kind on the disk before what it tells
            of is done: what concerns money, or what was agreed with others. The loss of any other
            by a power cut costs nothing.
    """

    at: datetime

    kinds: ClassVar[dict[str, type[Event]]] = {}
    durable: ClassVar[bool] = False

    def __init_subclass__(cls, **kwargs: object) -> None:
        """Register the kind for ``from_record``."""
        # slots=True makes each dataclass twice; the second replaces the first here.
        cls.kinds[cls.__name__] = cls

    @property
    def kind(self) -> str:
        """The name of the class."""
        return type(self).__name__

    def ids(self) -> dict[str, str]:
        """Return the ids that the event concerns, e.g. ``{"instance": "..."}``."""
        return {
            field.name.removesuffix("_id"): value
            for field in dataclasses.fields(self)
            if field.name.endswith("_id") and (value := getattr(self, field.name))
        }

    def concerns(self, ids: Mapping[str, str]) -> bool:
        """Tell whether the event concerns all of these ids."""
        own = self.ids()
        return all(own.get(name) == value for name, value in ids.items())

    def line(self) -> str:
        """Return the event as one line of a story; what only repeats other fields is left out."""
        values = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        hidden = {"at", "traceback", "cluster_id", "counters", "coeffs", "fixed", "threads"}
        if values.get("provider_name"):
            hidden.add("provider_id")
        shown = ", ".join(
            f"{name.removesuffix('_id')} {_one_line(value)}"
            for name, value in values.items()
            if name not in hidden and value not in (None, "", ())
        )
        return f"{self.at:%H:%M:%S}.{self.at.microsecond // 1000:03d} {self.kind}: {shown}"

    def to_record(self) -> dict[str, object]:
        """Return the event as JSON can hold it."""
        record: dict[str, object] = {"v": VERSION, "kind": self.kind}
        for name in _names(self):
            value = getattr(self, name)
            # Most are text: a journal writes some events for each command.
            if type(value) is not str:
                if isinstance(value, datetime):
                    value = value.isoformat()
                elif isinstance(value, Decimal):
                    value = str(value)
                elif isinstance(value, tuple):
                    value = [str(item) for item in value]
            record[name] = value
        return record


_NAMES: Final[dict[str, tuple[str, ...]]] = {}


def _names(event: Event) -> tuple[str, ...]:
    found = _NAMES.get(event.kind)
    if found is None:
        found = _NAMES[event.kind] = tuple(field.name for field in dataclasses.fields(event))
    return found


def _one_line(value: object) -> str:
    if isinstance(value, tuple):
        text = " | ".join(map(_one_line, value))
    elif isinstance(value, Decimal) and value.is_finite():
        # Networks count to the eighteenth decimal; zeros there hide the amount.
        whole, _, decimals = f"{value:f}".partition(".")
        text = f"{whole}.{decimals}".rstrip("0").rstrip(".") if decimals else whole
    elif isinstance(value, datetime):
        text = value.isoformat(sep=" ", timespec="seconds")
    else:
        text = str(value)
    return text.partition("\n")[0]


def _time(value: str) -> datetime:
    at = datetime.fromisoformat(value)
    if at.tzinfo is None:
        message = f"a time without a zone: {value}"
        raise ValueError(message)
    return at


_TYPES: Final[dict[str, tuple[type | tuple[type, ...], Callable[[Any], object] | None]]] = {
    "str": (str, None),
    "int": (int, None),
    "bool": (bool, None),
    "float": ((int, float), None),
    "Decimal": (str, Decimal),
    "datetime": (str, _time),
    "tuple[str, ...]": ((list, tuple), tuple),
    "tuple[Decimal, ...]": ((list, tuple), lambda items: tuple(map(Decimal, items))),
}
"""What a record holds for each type of a field, and what makes the field's value of it."""


def _value(field: dataclasses.Field[Any], record: Mapping[str, Any]) -> Any:
    name, annotation = field.name, str(field.type)
    if name not in record and field.default is not dataclasses.MISSING:
        return field.default
    value = record.get(name)
    bare = annotation.removesuffix(" | None")
    if value is None and bare != annotation:
        return None
    held, make = _TYPES[bare]
    if not isinstance(value, held):
        message = f"{name} is {value!r}, which is no {bare}"
        raise ValueError(message)  # noqa: TRY004 - whatever is wrong with a record is one error
    return value if make is None else make(value)


def from_record(record: Mapping[str, Any]) -> Event:
    """Return the event of a record. What this version does not know of it is left out.

    A field that the record does not have takes its default: it was written before there was one.

    Raises:
        ValueError: The record is of a newer version, of an unknown kind, or lacks something.
        ArithmeticError: An amount is no number.
    """
    if record.get("v") != VERSION:
        message = f"a record of version {record.get('v')!r}; this program reads version {VERSION}"
        raise ValueError(message)
    cls = Event.kinds.get(str(record.get("kind")))
    if cls is None:
        message = f"a record of the unknown kind {record.get('kind')!r}"
        raise ValueError(message)
    return cls(**{field.name: _value(field, record) for field in dataclasses.fields(cls)})
