"""The error tree: as drawn, codes unique, and what an error tells."""

from __future__ import annotations

import inspect
import pickle
import pkgutil
import re

import pytest

from requestor_sdk.model import errors
from requestor_sdk.model.errors import (
    CommandFailed,
    DaemonTooOld,
    DevnetFailed,
    JournalDamaged,
    NetworkError,
    RequestorError,
    WrongAppKey,
    all_errors,
)


def _classes() -> list[type[RequestorError]]:
    return [
        value
        for value in vars(errors).values()
        if inspect.isclass(value) and issubclass(value, RequestorError)
    ]


def _drawn() -> list[tuple[int, str, str]]:
    """Return depth, name and code of each line of the drawing in the module's docstring."""
    found = []
    for line in (errors.__doc__ or "").splitlines():
        match = re.match(r"([ │├└─]+)(\w+) +RSK-(\w+)  ", line)
        if match:
            found.append(((len(match[1]) - 4) // 4, match[2], match[3].replace("xx", "00")))
    return found


def test_the_drawing_is_the_tree():
    parents = {0: "RequestorError"}
    drawn = {}
    for depth, name, code in _drawn():
        drawn[name] = (code, parents[depth - 1])
        parents[depth] = name
    real = {
        cls.__name__: (cls.code.removeprefix("RSK-"), cls.__bases__[0].__name__)
        for cls in _classes()
        if cls is not RequestorError
    }
    assert drawn == real


def test_codes_are_unique_and_in_order():
    codes = [cls.code for cls in all_errors()]
    assert len(codes) == len(set(codes)) == len(_classes())
    assert codes == sorted(codes)
    assert all(re.fullmatch(r"RSK-\d{3}", code) for code in codes)


def test_a_code_lies_in_its_family():
    for cls in all_errors():
        for family in cls.__mro__[1:]:
            if family in _classes() and family is not RequestorError:
                assert cls.code[:5] == family.code[:5]


@pytest.mark.parametrize("cls", all_errors(), ids=lambda cls: cls.__name__)
def test_an_error_tells_what_where_what_came_before_and_what_to_try(cls):
    error = cls(
        "it broke", ids={"instance": "i-1"}, story=["12:00 started"], hint="requestor-sdk doctor"
    )
    assert str(error).splitlines() == [
        f"[{cls.code}] it broke",
        "  instance i-1",
        "  what came before:",
        "    12:00 started",
        "  try: requestor-sdk doctor",
    ]


def test_an_error_without_more_to_tell_is_one_line():
    assert str(RequestorError("it broke")) == "[RSK-000] it broke"


def test_a_failed_command_shows_the_end_of_its_standard_error():
    text = "\n".join(str(number) for number in range(30))
    shown = str(CommandFailed("exit 1", command="run /bin/x", stderr=text, return_code=1))
    assert shown.splitlines()[1:] == [f"  stderr: {number}" for number in range(20, 30)]


@pytest.mark.parametrize(
    ("cls", "builtin"),
    [
        (errors.HandlerError, TypeError),
        (errors.AmountError, ValueError),
        (errors.UploadUnreadable, OSError),
        (errors.ImageNotFound, LookupError),
        (errors.StartTimeout, TimeoutError),
    ],
)
def test_an_error_can_be_caught_by_the_built_in_it_is_a_case_of(cls, builtin):
    with pytest.raises(builtin):
        raise cls("it broke")


def test_a_damaged_journal_says_how_many_events_were_saved():
    assert JournalDamaged("half a file", saved=7).saved == 7
    assert JournalDamaged("no file at all").saved == 0


@pytest.mark.parametrize(
    ("status", "may"),
    [(None, True), (408, True), (429, True), (400, False), (401, False), (500, True)],
)
def test_an_error_of_the_daemon_may_pass_unless_it_refused_the_call(status, may):
    assert NetworkError("it failed", status=status).may_pass is may


@pytest.mark.parametrize("kind", [WrongAppKey, DaemonTooOld, DevnetFailed])
def test_what_does_not_change_by_waiting_does_not_pass(kind):
    assert not kind("it failed").may_pass


def test_a_family_of_errors_may_be_told_apart_elsewhere_under_its_own_code():
    class Elsewhere(CommandFailed):
        """Without a code of its own."""

    assert Elsewhere.code == CommandFailed.code
    assert Elsewhere not in all_errors()
    assert CommandFailed in all_errors()


@pytest.mark.parametrize("cls", _classes(), ids=lambda cls: cls.__name__)
def test_an_error_says_where_it_can_be_imported_from_and_comes_through_a_pickle(cls):
    assert pkgutil.resolve_name(f"{cls.__module__}:{cls.__name__}") is cls
    assert cls.__module__ == "requestor_sdk.errors"
    again = pickle.loads(pickle.dumps(cls("it broke", ids={"instance": "i-1"}, hint="try")))
    assert type(again) is cls
    assert str(again) == str(cls("it broke", ids={"instance": "i-1"}, hint="try"))
