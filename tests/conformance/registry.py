"""Which test shows which rule of the lifecycle, and which defect of the older SDK is not here.

The page docs/conformance.md is written from this by ``python -m conformance.registry`` (with the
folder ``tests`` on the path); a test compares the two.
"""

from __future__ import annotations

import ast
import sys
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent
PAGE = HERE.parents[1] / "docs" / "conformance.md"

RULES = {
    1: "Handlers are async generators that yield scripts, nested ones included; anything else is "
    "refused when the class is handed over.",
    2: "A handler is ended by a cancellation, `close_timeout`, another cancellation, and is then "
    "abandoned by name; it may not yield while it is closed.",
    3: "A yield gives the batch's results, each command an awaitable of its own that is never "
    "pending for ever; batches of one activity run in order.",
    4: "Direct calls do one command, in starting, running and stopping only.",
    5: "A failed batch is raised at the yield; a dead daemon is retried unseen; a silent provider "
    "makes the instance unresponsive; a loss cannot be caught away.",
    6: "Stop, suspend and loss are noticed while a batch is in flight; a stop waits `stop_grace` "
    "for it.",
    7: "An exception of the user's code ends that attempt only, and is kept and told.",
    8: "A loss is noticed though no script is sent; a terminated activity is dead; a service can "
    "bring a check of its own.",
    9: "Instances start, and agreements are signed, side by side.",
    10: "Restarts are a policy; its limits and a stop always win.",
    11: "Acts on a cluster take effect at once and return an awaitable; members keep object and "
    "id; a renewal counts as one member.",
    12: "Leaving stops in stages and returns within `leave_timeout` whatever hangs; errors leave "
    "as they are.",
    13: "Expirations are times from now or aware dates; `compute.now()` is the engine's clock.",
    14: "Nothing is held before a confirm, then the worst case; after a stop nothing is signed.",
    15: "At an attempt's end the hold shrinks at once and is payable until the invoice or its "
    "deadline; silent time is not paid; what is suspended outlives the process.",
    16: "Notes and invoices that are not right are rejected with the reason; the budget is never "
    "exceeded; loops that read events survive any error.",
    17: "The invariants hold at each moment and at the end.",
}

DEFECTS = {
    "d1": "A second stop cut `shutdown()` half-way.",
    "d2": "Stop, suspend and health were not looked at while a batch ran.",
    "d3": "One error while an agreement was made left the instance pending for ever.",
    "d4": "A health check that raised a connection error ended the worker without a transition.",
    "d5": "Refused activities cost a new agreement each second, and none was released.",
    "d6": "Stopping a pending instance did not end its negotiation.",
    "d7": "The error of `run()` was forgotten once the shutdown had gone well.",
    "d8": "After one success a later failed start was not tried again.",
    "d9": "A true `restart_condition` restarted what had been stopped.",
    "d10": "Leaving a suspended cluster took ten seconds; a second suspend raised.",
    "d11": "A stop in starting went one of two ways by chance.",
    "d12": "Handlers were never closed: their `finally` ran beside the next handler.",
    "d13": "Errors and cancellations were swallowed by a `return` in a `finally`.",
    "d14": "Agreements were signed one at a time under one lock.",
    "d15": "A resumed instance that was lost went back to its dead activity.",
    "d16": "The loops for invoices and offers died of any unlisted error.",
    "d17": "A debit note whose fetch failed was lost.",
    "d18": "The next activity of an agreement reset what was payable for the one before.",
    "d19": "An invoice above what was accepted was ignored and counted as paid.",
    "d20": "After a wait at the end invoices were forgotten, and nothing paid them later.",
    "d21": "The whole budget was reserved for ten years, and not looked at before signing.",
    "d22": "Programs with the same key read each other's events.",
    "d23": "Addresses of a virtual network were never used again.",
    "d24": "Two instances on one provider overwrote each other in a virtual network.",
    "d25": "A node that could not be removed kept its successor out of the virtual network.",
    "d26": "The HTTP proxy cut bodies and took the first chunk for the whole.",
    "d27": "The socket proxy closed idle connections and lost its ports.",
    "d28": "All events carried the time of the import.",
    "d29": "`run(env=...)` was dropped; awaitables of failed and later commands never resolved.",
    "d30": "Results were polled with blind pauses, all of them again each time.",
    "d31": "In streaming mode a failure was a success, and output was missing.",
    "d32": "Uploaded files stayed published after a script that failed.",
    "d33": "An input that raised, or a sole worker with its task back, blocked a job; workers "
    "started one by one.",
    "d34": "A manifest given as text was sent unencoded.",
    "d35": "Queues and registries grew without bounds; an event after the end raised.",
    "d36": "Entering a cluster gave nothing; an error's text was not filled in.",
}

ELSEWHERE = {
    "d23": "not part of this version: there are no virtual networks; `vpn=` is reserved for them.",
    "d24": "not part of this version: there are no virtual networks.",
    "d25": "not part of this version: there are no virtual networks.",
    "d26": "not part of this version: there is no HTTP proxy, which needs virtual networks.",
    "d27": "not part of this version: there is no socket proxy, which needs virtual networks.",
    "d31": "in part: the daemon loses each stream between two identities of its own, and a devnet "
    "has one daemon. There output is told from the result, once a command is over; as it comes it "
    "is told where provider and requestor have a daemon each.",
}


HEAD = """\
# Conformance

What [the lifecycle](lifecycle.md) promises, and where that is shown; `pytest tests/conformance` is
what runs the tests, through the public API. They run in virtual time on the [simulated
network](testing.md), and end with the check of all invariants: over the journal, over what the
market saw, and over what the handlers saw. Those of `test_defects_on_golem.py` run on the real
daemon, closed to the outside; without it (the extra `golem`) they are skipped.
"""


@dataclass(frozen=True)
class Shown:
    """One test and what it shows."""

    file: str
    name: str
    rules: tuple[int, ...]
    defects: tuple[str, ...]


def shown_tests() -> list[Shown]:
    """Every test of this folder, in the order of its files, with what its markers say."""
    found = []
    for path in sorted(HERE.glob("test_*.py")):
        for node in ast.parse(path.read_text()).body:
            named = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
            if named and node.name.startswith("test_"):
                marks = [_mark(decorator) for decorator in node.decorator_list]
                rules = tuple(value for kind, value in marks if kind == "rule")
                defects = tuple(value for kind, value in marks if kind == "defect")
                found.append(Shown(path.name, node.name, rules, defects))
    return found


def _mark(node: ast.expr) -> tuple[str, object]:
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
        argument = node.args[0] if node.args else None
        if isinstance(argument, ast.Constant):
            return node.func.attr, argument.value
    return "", None


def page() -> str:
    """The page of the documentation."""
    shown = shown_tests()
    lines = [HEAD, "## Rules", "", "| rule | what it promises | shown by |", "|---|---|---|"]
    for number, text in RULES.items():
        mine = [one for one in shown if number in one.rules]
        lines.append(f"| {number} | {text} | {_named(mine)} |")
    lines += [
        "",
        "## Defects of the older SDK",
        "",
        "What was found wrong in yapapi 0.13, and the tests that show that it is not so here.",
        "",
        "| defect | what it was | shown by |",
        "|---|---|---|",
    ]
    for number, text in DEFECTS.items():
        mine = [one for one in shown if number in one.defects]
        if mine:
            lines.append(f"| {number} | {text} | {_named(mine)} |")
    lines += ["", "## Not shown here", "", "| defect | what it was | why |", "|---|---|---|"]
    lines += [f"| {number} | {DEFECTS[number]} | {why} |" for number, why in ELSEWHERE.items()]
    return "\n".join([*lines, ""])


def _named(found: list[Shown]) -> str:
    return "<br>".join(f"`{one.name.removeprefix('test_')}`" for one in found)


if __name__ == "__main__":
    PAGE.write_text(page())
    sys.stdout.write(f"{PAGE} is written\n")
