"""What the documentation says of states, errors, events and settings is what the code says."""

from __future__ import annotations

import dataclasses
import re
import xml.etree.ElementTree as ET

import diagram
import error_notes
import generated
import pytest
from docs.reading import DOCS

from requestor_sdk.model.errors import all_errors
from requestor_sdk.model.events import Event
from requestor_sdk.model.lifecycle import TABLE, Guard, ServiceState, Stimulus, Target
from requestor_sdk.settings import Settings

RULES = [
    (state, stimulus, rule)
    for state, row in TABLE.items()
    for stimulus, rules in row.items()
    for rule in rules
]
OURS = [e for e in all_errors() if e.__module__.startswith("requestor_sdk.")]


def cells():
    """The lifecycle table as it is printed: (from, event) -> text."""
    rows = [line.strip("| ").split(" | ", 2) for line in generated.lifecycle_table().splitlines()]
    return {(row[0].strip("`"), row[1]): row[2] for row in rows if len(row) == 3}


@pytest.mark.parametrize(("state", "stimulus", "rule"), RULES)
def test_every_rule_of_the_table_is_in_the_page(state, stimulus, rule):
    text = cells()[state.value, stimulus.value]
    shown = {Target.STAY: "stays", Target.BEHIND: "*behind*", Target.END: "**END**"}
    assert f"→ {shown.get(rule.target, f'`{rule.target.value}`')}" in text
    assert all(f"`{mark.value}`" in text for mark in rule.marks)
    assert rule.guard is Guard.always or f"if {rule.guard.value}: →" in text


def test_the_page_has_no_rule_that_the_table_has_not():
    assert set(cells()) - {("from", "event")} == {(s.value, e.value) for s, e, _ in RULES}
    arrows = sum(text.count("→") for text in cells().values())
    assert arrows == len(RULES)


@pytest.mark.parametrize("state", ServiceState)
def test_every_state_is_told(state):
    assert f"| `{state.value}` | " in generated.lifecycle_states()


def test_the_diagram_has_a_node_a_state_and_every_way_between_them():
    root = ET.fromstring(diagram.lifecycle_svg())
    space = "{http://www.w3.org/2000/svg}"
    nodes = {text.text for group in root.iter(f"{space}g") for text in group.iter(f"{space}text")}
    assert nodes == {state.value for state in ServiceState} | {"END"}
    titles = {title.text.partition(": ")[0]: title.text for title in root.iter(f"{space}title")}
    for state, stimulus, rule in RULES:
        if rule.target is Target.STAY or rule.target is state:
            continue
        targets = {Target.BEHIND: ("starting", "running"), Target.END: ("END",)}
        for target in targets.get(rule.target, (rule.target.value,)):
            assert stimulus.value in titles[f"{state.value} to {target}"]
    assert len(titles) == len(diagram.arrows()) + 2  # the two ways out of END


def test_the_diagram_labels_every_event_that_is_not_abrupt():
    svg = diagram.lifecycle_svg()
    for (source, target), labels in diagram.arrows().items():
        shown = set(diagram._short(labels))
        assert shown or all(label in diagram.ABRUPT for label in labels), (source, target)
        assert all(f">{text}</tspan>" in svg for text in shown)
    assert set(diagram.ABRUPT) == {Stimulus.expired, Stimulus.cancel}


@pytest.mark.parametrize("error", OURS, ids=lambda e: e.code)
def test_every_error_has_an_anchor_and_a_name(error):
    page = generated.error_reference()
    assert page.count(f"({error.code})=\n") == 1
    assert re.search(rf"^#+ {error.code} {error.__name__}$", page, re.MULTILINE)


def test_every_error_that_is_raised_has_causes_and_a_fix_and_no_other_has():
    assert set(error_notes.NOTES) == {e.code for e in OURS if not e.code.endswith("00")}
    assert all(note.causes and note.fix for note in error_notes.NOTES.values())


def test_every_event_is_told_once_with_its_fields():
    page = generated.event_reference()
    kinds = [k for k in Event.kinds.values() if k.__module__.startswith("requestor_sdk.")]
    for kind in kinds:
        [row] = re.findall(rf"^\| `{kind.__name__}` \| (.+)$", page, re.MULTILINE)
        assert all(f"`{f.name}`" in row for f in dataclasses.fields(kind) if f.name != "at")


def test_every_setting_is_told_with_its_default():
    page = generated.settings_table()
    for field in dataclasses.fields(Settings):
        assert f"| `{field.name}` | {field.default} | " in page


def test_every_command_tells_its_options():
    page = generated.command_help()
    for command in ("demo", "run", "recover", "image build", "image rm", "doctor"):
        assert f"$ requestor-sdk {command} --help" in page


def test_every_part_is_asked_for_by_a_page():
    asked = {
        name for page in DOCS.glob("*.md") for name in generated.MARKER.findall(page.read_text())
    }
    assert asked == set(generated.PARTS)
