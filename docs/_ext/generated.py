"""Parts of the documentation that are made from the code when it is built.

A page says ``<!-- generated: NAME -->`` on a line of its own; the line is replaced by the Markdown
that the function of that name returns. Everything here is plain text, so that tests can read it.
"""

from __future__ import annotations

import dataclasses
import inspect
import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from diagram import lifecycle_svg
from error_notes import NOTES

from requestor_sdk.model.errors import all_errors
from requestor_sdk.model.event import Event
from requestor_sdk.model.events import (
    _activities,
    _compute_jobs,
    _instances,
    _market,
    _money,
    _run,
    _tasks,
)
from requestor_sdk.model.lifecycle import TABLE, Guard, Rule, ServiceState, Stimulus, Target
from requestor_sdk.model.money import CPU, DURATION
from requestor_sdk.observe.metrics import METRICS
from requestor_sdk.provider import default_providers
from requestor_sdk.settings import Settings

if TYPE_CHECKING:
    import click
    from sphinx.application import Sphinx

EVENT_FAMILIES = (_run, _market, _activities, _instances, _compute_jobs, _tasks, _money)

MARKER = re.compile(r"^<!-- generated: ([a-z-]+) -->$", re.MULTILINE)


def rule_text(rule: Rule) -> str:
    """Return where a rule goes, what it marks and under what condition."""
    target = {Target.STAY: "stays", Target.BEHIND: "*behind*", Target.END: "**END**"}.get(
        rule.target, f"`{rule.target}`"
    )
    marks = ", ".join(f"`{mark}`" for mark in rule.marks)
    when = "" if rule.guard is Guard.always else f"if {rule.guard}: "
    return f"{when}→ {target}" + (f" [{marks}]" if marks else "")


def cell(state: ServiceState, stimulus: Stimulus) -> str:
    """Return what an event does in a state, rule by rule in the order they are tried."""
    rules = TABLE[state].get(stimulus, ())
    return "; ".join(rule_text(rule) for rule in rules)


def lifecycle_states() -> str:
    """Return the states with what the code says of each."""
    source = inspect.getsource(ServiceState)
    said = dict(
        re.findall(r'^    (\w+) = "\w+"\n    """(.+?)"""', source, re.MULTILINE | re.DOTALL)
    )
    rows = [f"| `{state}` | {code_marks(said[state.name])} |" for state in ServiceState]
    return "\n".join(["| state | meaning |", "|---|---|", *rows])


def lifecycle_table() -> str:
    """Return every rule of the table, grouped by the state it starts from."""
    rows = ["| from | event | what it does |", "|---|---|---|"]
    for state in ServiceState:
        found = [s for s in Stimulus if s in TABLE[state]]
        if not found:
            rows.append(f"| `{state}` | | nothing changes it |")
        rows += [f"| `{state}` | {stimulus} | {cell(state, stimulus)} |" for stimulus in found]
    return "\n".join(rows)


def lifecycle_diagram() -> str:
    """Return the diagram as an inline SVG."""
    return f"```{{raw}} html\n{lifecycle_svg()}\n```"


def error_reference() -> str:
    """Return a section for each error, with its code as the anchor."""
    parts: list[str] = []
    for error in all_errors():
        if not error.__module__.startswith("requestor_sdk."):
            continue
        level = "##" if error.code.endswith("00") else "###"
        parts.append(f"({error.code})=\n{level} {error.code} {error.__name__}\n")
        parts.append(code_marks(first_paragraph(error)) + "\n")
        bases = [
            b.__name__ for b in error.__mro__[1:] if b not in (object, Exception, BaseException)
        ]
        ours = [n for n in bases if n not in dir(__import__("builtins"))]
        theirs = [n for n in bases if n in dir(__import__("builtins"))]
        if ours:
            also = f", and a `{theirs[0]}`" if theirs else ""
            parts.append(f"Is a `{ours[0]}`{also}.\n")
        note = NOTES.get(error.code)
        if note is not None:
            parts.append(f"**Likely causes.** {note.causes}\n")
            parts.append(f"**What to do.** {note.fix}\n")
    return "\n".join(parts)


def event_reference() -> str:
    """Return the events with what they tell and carry."""
    parts: list[str] = []
    for family in EVENT_FAMILIES:
        title = (family.__doc__ or "").partition(":")[0]
        parts += [f"### {title}\n", "| event | when | fields | flushed |", "|---|---|---|---|"]
        for event in Event.kinds.values():
            if event.__module__ != family.__name__:
                continue
            fields = [f.name for f in dataclasses.fields(event) if f.name != "at"]
            shown = ", ".join(f"`{field}`" for field in fields)
            flushed = "yes" if event.durable else ""
            said = code_marks(first_paragraph(event))
            parts.append(f"| `{event.__name__}` | {said} | {shown} | {flushed} |")
        parts.append("")
    return "\n".join(parts)


def settings_table() -> str:
    """Return the settings with defaults and meaning."""
    doc = inspect.cleandoc(Settings.__doc__ or "")
    said = {
        name: " ".join(text.split())
        for name, text in re.findall(
            r"^    (\w+): (.+?)(?=^    \w+: |\Z)", doc, re.MULTILINE | re.DOTALL
        )
    }
    rows = ["| setting | default | meaning |", "|---|---|---|"]
    rows += [
        f"| `{field.name}` | {field.default} | {code_marks(said[field.name])} |"
        for field in dataclasses.fields(Settings)
    ]
    return "\n".join(rows)


def default_providers_table() -> str:
    """Return names and prices of the providers that `local` has unless told otherwise."""
    rows = ["| provider | a second | a processor second | start fee |", "|---|---|---|---|"]
    for config in default_providers():
        pricing = config.pricing
        prices = (pricing.price(DURATION), pricing.price(CPU), pricing.fixed)
        rows.append(f"| {config.name} | " + " | ".join(f"{p:f}" for p in prices) + " |")
    return "\n".join(rows)


def metrics_table() -> str:
    """Return the metrics with their labels."""
    rows = ["| metric | kind | labels | what it says |", "|---|---|---|---|"]
    for metric in METRICS:
        labels = ", ".join(f"`{label}`" for label in ("network", *metric.labels))
        rows.append(f"| `{metric.name}` | {metric.kind} | {labels} | {metric.help} |")
    return "\n".join(rows)


def command_help() -> str:
    """Return what each command says of itself by ``--help``."""
    import click

    from requestor_sdk.cli import main

    parts: list[str] = []

    def walk(command: click.Command, path: str) -> None:
        with click.Context(command, info_name=path) as context:
            parts.append(f"```text\n$ {path} --help\n{command.get_help(context)}\n```\n")
            if isinstance(command, click.Group):
                for name in command.list_commands(context):
                    found = command.get_command(context, name)
                    if found is not None:
                        parts.append(f"### `{path} {name}`\n")
                        walk(found, f"{path} {name}")

    walk(main, "requestor-sdk")
    return "\n".join(parts)


def first_paragraph(thing: Any) -> str:
    """Return the first paragraph of a docstring on one line."""
    return " ".join(inspect.cleandoc(thing.__doc__ or "").split("\n\n")[0].split())


def code_marks(text: str) -> str:
    """Turn a docstring's double backquotes into Markdown's."""
    return " ".join(text.replace("``", "`").replace("|", "\\|").split())


PARTS: dict[str, Callable[[], str]] = {
    "lifecycle-states": lifecycle_states,
    "lifecycle-table": lifecycle_table,
    "lifecycle-diagram": lifecycle_diagram,
    "error-reference": error_reference,
    "event-reference": event_reference,
    "settings-table": settings_table,
    "default-providers": default_providers_table,
    "metrics": metrics_table,
    "command-help": command_help,
}


def filled(text: str) -> str:
    """Return a page with its generated parts in place."""
    return MARKER.sub(lambda found: PARTS[found[1]](), text)


def _on_source_read(_app: Sphinx, _name: str, source: list[str]) -> None:
    source[0] = filled(source[0])


def setup(app: Sphinx) -> dict[str, bool]:
    """Called by Sphinx."""
    app.connect("source-read", _on_source_read)
    return {"parallel_read_safe": True}


__all__ = ["PARTS", "filled", "setup"]
