"""The public face: what it exports, what importing it costs, where it can be imported."""

import ast
import dataclasses
import inspect
import pkgutil
import subprocess
import sys
from enum import Enum
from pathlib import Path

import pydantic
import pytest

import requestor_sdk

PACKAGE = Path(requestor_sdk.__file__).parent
POSIX_ONLY = {"fcntl", "pwd", "grp", "resource", "termios"}
HEAVY = {
    "asyncio",
    "aiohttp",
    "pydantic",
    "eth_account",
    "eth_keys",
    "anyio",
    "click",
    "rich",
    "sqlite3",
}

EXPORTED = [
    "DDO",
    "AlgorithmMetadata",
    "AlgorithmSpec",
    "AssetRef",
    "AsyncOceanCompute",
    "Budget",
    "Capture",
    "CaptureMode",
    "Cluster",
    "CommandResult",
    "Compute",
    "ComputeInput",
    "Environment",
    "Golem",
    "GolemConfig",
    "GolemNetwork",
    "HandlerCluster",
    "HandlerService",
    "Job",
    "JobOutcome",
    "JobStatus",
    "JsonlJournal",
    "LinearPricing",
    "LocalNetwork",
    "MemoryJournal",
    "OceanCompute",
    "OceanConfig",
    "OceanService",
    "Payload",
    "ProviderConfig",
    "RenewalPolicy",
    "RequestorError",
    "RestartPolicy",
    "ResultFile",
    "Resumable",
    "RunState",
    "RunStore",
    "RunSummary",
    "Script",
    "Service",
    "ServiceState",
    "Settings",
    "SqliteJournal",
    "Task",
    "TaskAttempt",
    "TaskResults",
    "TaskStatus",
    "WorkContext",
    "__version__",
    "constraint",
    "errors",
    "events",
    "handlers",
    "keystore_wallet",
    "monitoring",
    "payload",
    "prop",
    "props",
    "services",
    "strategy",
    "vm",
]


def run(code):
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_exported_names_are_these():
    assert requestor_sdk.__all__ == EXPORTED
    assert dir(requestor_sdk) == sorted(EXPORTED)


@pytest.mark.parametrize("name", EXPORTED)
def test_each_exported_name_is_there(name):
    assert getattr(requestor_sdk, name) is not None


def test_golem_is_an_alias_of_compute():
    assert requestor_sdk.Golem is requestor_sdk.Compute


def test_a_name_that_is_not_there_is_an_attribute_error():
    with pytest.raises(AttributeError, match="Computer"):
        requestor_sdk.Computer  # noqa: B018


def test_importing_what_a_program_needs_loads_nothing_heavy():
    loaded = run(
        "from requestor_sdk import Compute, Service, vm, RestartPolicy, Settings\n"
        "import sys\n"
        "print(*sorted({name.partition('.')[0] for name in sys.modules}))"
    )
    assert not HEAVY & set(loaded.split())


def imports_of(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module.partition(".")[0]


def test_nothing_outside_the_sandbox_imports_what_only_posix_has():
    found = {
        str(path.relative_to(PACKAGE)): POSIX_ONLY & set(imports_of(path))
        for path in PACKAGE.rglob("*.py")
        if path.relative_to(PACKAGE).parts[0] != "sandbox"
    }
    assert {name: bad for name, bad in found.items() if bad} == {}


def test_the_client_imports_where_the_posix_modules_are_missing():
    run(
        "import sys\n"
        f"for name in {sorted(POSIX_ONLY)}: sys.modules[name] = None\n"
        "from requestor_sdk import Compute, LocalNetwork, Service, vm, MemoryJournal\n"
        "import requestor_sdk.sandbox, requestor_sdk.cli, requestor_sdk.provider\n"
        "Compute(budget=1)"
    )


def test_every_module_says_why_it_exists():
    silent = [
        str(path.relative_to(PACKAGE))
        for path in PACKAGE.rglob("*.py")
        if not ast.get_docstring(ast.parse(path.read_text()))
    ]
    assert silent == []


def silent_in(node, place, told):
    """Yield the public names below a node that say nothing of themselves."""
    for child in ast.iter_child_nodes(node):
        if not isinstance(child, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            if isinstance(child, ast.If | ast.Try):
                yield from silent_in(child, place, told)
            continue
        marks = {ast.unparse(mark).rpartition(".")[2] for mark in child.decorator_list}
        if child.name.startswith("_") or marks & {"overload", "setter"}:
            continue
        said = ast.get_docstring(child) or ""
        if not said and not told:
            yield f"{place}.{child.name}"
        if isinstance(child, ast.ClassDef):
            # What implements a large port may leave it to that to tell.
            port_tells = "tells of each method" in said
            yield from silent_in(child, f"{place}.{child.name}", port_tells)


def test_every_public_name_says_what_it_is_in_modules_of_our_own_too():
    silent = [
        name
        for path in PACKAGE.rglob("*.py")
        for name in silent_in(ast.parse(path.read_text()), path.stem, told=False)
    ]
    assert silent == []


# Others make them: what they are made of is no matter of users.
HANDED_OUT = {
    "Budget",
    "Cluster",
    "InvariantBroken",
    "Job",
    "Submitted",
    "TaskResults",
    "WorkContext",
}
FACES = [
    "requestor_sdk",
    "requestor_sdk.handlers",
    "requestor_sdk.monitoring",
    "requestor_sdk.payload",
    "requestor_sdk.strategy",
    "requestor_sdk.testing",
    "requestor_sdk.vm",
]


def values_of(cls):
    """Return the names of what a class is made of."""
    if dataclasses.is_dataclass(cls):
        return [field.name for field in dataclasses.fields(cls)]
    if issubclass(cls, pydantic.BaseModel):
        return list(cls.model_fields)
    return list(inspect.signature(cls).parameters) if "__init__" in vars(cls) else []


@pytest.mark.parametrize("face", FACES)
def test_whatever_users_hand_to_a_class_is_told_in_its_docstring(face):
    module = pkgutil.resolve_name(face.replace("requestor_sdk.vm", "requestor_sdk.service.vm"))
    untold = [
        f"{name}.{value}"
        for name in set(module.__all__) - HANDED_OUT
        if inspect.isclass(cls := getattr(module, name)) and not issubclass(cls, Enum)
        for value in values_of(cls)
        if not value.startswith("_")
        if not any(
            f" {value}: " in (inspect.getdoc(base) or "").replace("\n", " ")
            for base in cls.__mro__
            if base is not object
        )
    ]
    assert untold == []


def public_methods(cls):
    return {name: value for name, value in vars(cls).items() if inspect.isfunction(value)}


def shape(function, *, but):
    """Return the parameters of a function, and what it returns but for one of some words."""
    told = inspect.signature(function)
    returned = str(told.return_annotation)
    for word in but:
        returned = returned.replace(word, "")
    return list(told.parameters.values()), returned


def test_the_blocking_ocean_compute_takes_and_gives_what_the_awaited_one_does():
    awaited = public_methods(requestor_sdk.AsyncOceanCompute)
    blocking = public_methods(requestor_sdk.OceanCompute)
    names = {name for name in awaited if not name.startswith("_")}
    assert names == {name for name in blocking if not name.startswith("_")}
    for name in names:
        assert shape(blocking[name], but=[]) == shape(awaited[name], but=["Async"]), name


@pytest.mark.parametrize("name", ["expose", "init"])
def test_the_decorators_of_the_default_handlers_take_what_those_of_any_do(name):
    of_module = getattr(requestor_sdk.handlers, name)
    of_any = getattr(requestor_sdk.handlers.default, name)
    assert shape(of_module, but=[]) == shape(of_any, but=[])
