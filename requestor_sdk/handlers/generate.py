"""Python of an OpenAPI document: models and stubs, for handlers whose code is not at hand.

    python -m requestor_sdk.handlers.generate http://127.0.0.1:5555/openapi.json > there.py

The stubs are only read for their types, by ``HandlerClient``. The document is not trusted: names
must be identifiers, and everything else of it that reaches the source is a literal.
"""

from __future__ import annotations

import keyword
import re
import sys
from collections.abc import Mapping
from types import ModuleType
from typing import Any, Final

from requestor_sdk.model.errors import UsageError
from requestor_sdk.model.parsing import parse_json

_REF: Final = "#/components/schemas/"
_PLAIN: Final = {
    "string": "str",
    "integer": "int",
    "number": "float",
    "boolean": "bool",
    "null": "None",
}
_FORMATS: Final = {
    "date-time": "datetime",
    "date": "date",
    "time": "time",
    "uuid": "UUID",
    "binary": "bytes",
}
_BOUNDS: Final = {
    "minimum": "ge",
    "maximum": "le",
    "exclusiveMinimum": "gt",
    "exclusiveMaximum": "lt",
    "minLength": "min_length",
    "maxLength": "max_length",
    "minItems": "min_length",
    "maxItems": "max_length",
}
_HEAD: Final = '''"""Made by requestor_sdk.handlers.generate."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date, datetime, time
from typing import Any, Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field
'''


def generate(document: Mapping[str, Any] | str | bytes) -> str:
    """Return a module's source: a model for each schema and a stub for each handler.

    Args:
        document: OpenAPI, as ``/openapi.json`` serves it.

    Raises:
        UsageError: It is no such document.
    """
    return _Source(_loaded(document)).text()


def load(document: Mapping[str, Any] | str | bytes) -> ModuleType:
    """Load that module and return it; its stubs are for ``HandlerClient``."""
    module = ModuleType("requestor_sdk_generated_handlers")
    sys.modules[module.__name__] = module
    exec(compile(generate(document), "<generated>", "exec"), module.__dict__)  # noqa: S102
    return module


def _loaded(document: Mapping[str, Any] | str | bytes) -> Mapping[str, Any]:
    try:
        found = parse_json(document) if isinstance(document, str | bytes) else document
        if str(found["openapi"]).startswith("3.1") and isinstance(found["paths"], dict):
            return found
    except (ValueError, KeyError, TypeError):
        pass
    raise UsageError("this is no OpenAPI 3.1 document", hint="fetch /openapi.json of the handlers")


class _Source:
    def __init__(self, document: Mapping[str, Any]) -> None:
        self._paths: dict[str, Any] = document["paths"]
        self._schemas: dict[str, Any] = document.get("components", {}).get("schemas", {})
        self._names = {
            name: _identifier(re.sub(r"\W", "_", name))
            for name in self._schemas
            if not name.endswith("_")
        }

    def text(self) -> str:
        models = [self._model(name) for name in self._names]
        stubs = [
            self._stub(path, item["post"])
            for path, item in self._paths.items()
            if path.startswith("/call/") and isinstance(item, dict) and "post" in item
        ]
        return _HEAD + "".join(f"\n\n{each}\n" for each in [*models, *stubs])

    def _model(self, name: str) -> str:
        schema = self._schemas[name]
        if not isinstance(schema, dict) or "properties" not in schema:
            if schema.get("type") == "object":
                return f"class {self._names[name]}(BaseModel):\n    pass"
            return f"{self._names[name]} = {self._evaluated(schema)}"
        required = schema.get("required", [])
        rows = [
            self._field(field, each, required=field in required)
            for field, each in schema["properties"].items()
        ]
        body = "\n".join(f"    {row}" for row in rows) or "    pass"
        config = "    model_config = ConfigDict(populate_by_name=True)\n"
        return f"class {self._names[name]}(BaseModel):\n{config}\n{body}"

    def _evaluated(self, schema: Any) -> str:
        """Return a type that stands outside annotations: it may name no model that comes later."""
        found = self._type(schema)
        return found if not any(name in found for name in self._names.values()) else "Any"

    def _field(self, field: str, schema: Any, *, required: bool) -> str:
        name = re.sub(r"\W", "_", field)
        if not name.isidentifier() or keyword.iskeyword(name) or name.startswith("_"):
            name = f"field_{name}"
        # A field that is named as its type would hide it.
        if hasattr(_base_model(), name) or name in {*self._names.values(), *_HEAD.split()}:
            name = f"{name}_"
        options = [f"alias={field!r}"] if name != field else []
        options += [
            f"{ours}={schema[theirs]!r}"
            for theirs, ours in _BOUNDS.items()
            if isinstance(schema, dict) and isinstance(schema.get(theirs), int | float)
        ]
        kind = self._type(schema)
        if not required:
            default = schema.get("default") if isinstance(schema, dict) else None
            options.insert(0, f"default={default!r}")
            if default is None and "None" not in kind:
                kind = f"{kind} | None"
        return f"{name}: {kind}" + (f" = Field({', '.join(options)})" if options else "")

    def _type(self, schema: Any, depth: int = 0) -> str:
        if not isinstance(schema, dict) or depth > 20:
            return "Any"
        if "$ref" in schema:
            return self._names.get(str(schema["$ref"]).removeprefix(_REF), "Any")
        if "const" in schema:
            return _literal([schema["const"]])
        if "enum" in schema:
            return _literal(schema["enum"])
        for word in ("anyOf", "oneOf"):
            if isinstance(schema.get(word), list):
                kinds = [self._type(each, depth + 1) for each in schema[word]]
                return " | ".join(dict.fromkeys(kinds)) or "Any"
        return self._typed(schema, depth)

    def _typed(self, schema: dict[str, Any], depth: int) -> str:
        kind = schema.get("type")
        if isinstance(kind, list):
            each = [self._type({**schema, "type": one}, depth + 1) for one in kind]
            return " | ".join(dict.fromkeys(each)) or "Any"
        if kind == "array":
            return f"list[{self._type(schema.get('items'), depth + 1)}]"
        if kind == "object":
            return f"dict[str, {self._type(schema.get('additionalProperties'), depth + 1)}]"
        if kind == "string" and schema.get("format") in _FORMATS:
            return _FORMATS[schema["format"]]
        return _PLAIN.get(str(kind), "Any")

    def _stub(self, path: str, operation: Mapping[str, Any]) -> str:
        name = _identifier(path.removeprefix("/call/"))
        try:
            taken = operation["requestBody"]["content"]["application/json"]["schema"]
            content = operation["responses"]["200"]["content"]
            given = content["application/json"]["schema"]
            streams = "text/event-stream" in content
            output = self._type(given["items"] if streams else given)
        except (KeyError, TypeError):
            raise UsageError(f"{path} of the document is no handler") from None
        kind = f"Iterator[{output}]" if streams else output
        body = "yield from ()" if streams else "raise NotImplementedError"
        return f"def {name}(data: {self._type(taken)}) -> {kind}:\n    {body}"


def _base_model() -> type:
    from pydantic import BaseModel

    return BaseModel


def _identifier(name: str) -> str:
    if not name.isidentifier() or keyword.iskeyword(name):
        raise UsageError(f"the document names something {name!r}, which is no name in Python")
    return name


def _literal(values: Any) -> str:
    plain = [v for v in values if v is None or isinstance(v, str | int | bool)]
    if not plain or len(plain) != len(values):
        return "Any"
    return f"Literal[{', '.join(repr(value) for value in plain)}]"


def main() -> None:
    """Print the module of the document at a URL or in a file."""
    from urllib.request import urlopen

    if len(sys.argv) != 2:
        sys.exit("usage: python -m requestor_sdk.handlers.generate URL_OR_FILE")
    where = sys.argv[1]
    if where.startswith(("http://", "https://")):
        with urlopen(where, timeout=30) as answer:  # noqa: S310 - checked
            content = answer.read()
    else:
        with open(where, "rb") as file:  # noqa: PTH123
            content = file.read()
    sys.stdout.write(generate(content))


if __name__ == "__main__":
    main()
