"""``requestor-sdk simulate``: a program of the user's on the simulated network, many times."""

from __future__ import annotations

import json
import shlex
import sys
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import redirect_stdout
from dataclasses import asdict, dataclass
from datetime import timedelta
from decimal import Decimal
from io import TextIOBase
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any, TypeVar

import click

from requestor_sdk.cli._program import as_program, forget_neighbours, has_main, is_python, load
from requestor_sdk.observe.text import amount, duration, exact

if TYPE_CHECKING:
    from requestor_sdk.testing.simulate import RunReport

N = TypeVar("N", int, float, Decimal)

_INTERRUPTED = 130


@dataclass(frozen=True, slots=True, kw_only=True)
class _Asked:
    """What was asked for, as far as a command that repeats a run has to say it."""

    file: str
    args: tuple[str, ...]
    providers: int
    faults: str
    budget: str
    bounds: tuple[str, ...] = ()

    def again(self, seed: int) -> str:
        words = [
            "requestor-sdk",
            "simulate",
            *("--providers", str(self.providers)),
            *("--faults", self.faults),
            *("--budget", self.budget),
            *self.bounds,
            *("--seed", str(seed)),
            *("--runs", "1"),
            self.file,
            # Else this command would take the program's options for its own.
            *(("--",) if any(word.startswith("-") for word in self.args) else ()),
            *self.args,
        ]
        return shlex.join(words)


class _Bound(click.FloatRange):
    """A time above zero that is a number, and not past all dates."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        found = super().convert(value, param, ctx)
        if found != found:  # noqa: PLR0124 - it is no number
            self.fail(f"{value} is no number", param, ctx)
        return found


_HOURS = 720.0
_REAL_SEC = 300.0


@click.command()
@click.option("--providers", metavar="N", type=click.IntRange(1), default=8, show_default=True)
@click.option(
    "--faults",
    metavar="PLAN",
    default="none",
    show_default=True,
    help="none, calm, rough, storm, or rules such as 'market.confirm@3=error:500'.",
)
@click.option("--seed", metavar="N", default="0", show_default=True, help="Of the first run.")
@click.option("--runs", metavar="N", type=click.IntRange(1), default=10, show_default=True)
@click.option("--budget", metavar="AMOUNT", default="10", show_default=True, help="Of each run.")
@click.option(
    "--hours",
    type=_Bound(0, 876_000, min_open=True),
    default=_HOURS,
    show_default=True,
    help="Virtual time after which a run is ended.",
)
@click.option(
    "--real-seconds",
    metavar="N",
    type=_Bound(0, 1e6, min_open=True),
    default=_REAL_SEC,
    show_default=True,
    help="Real time after which a run is ended.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@click.argument("file", metavar="FILE.py", type=click.Path(exists=True, dir_okay=False))
@click.argument("args", nargs=-1, type=click.UNPROCESSED)
@click.pass_context
def command(ctx: click.Context, /, file: str, args: tuple[str, ...], **options: Any) -> None:
    """Run FILE.py's `async def main(compute)` on a simulated network, seed after seed.

    Nothing real runs: providers are scripted, time jumps, any image will do. Ends with 0 only
    where no invariant broke in any run and the program failed by no error of its own.
    """
    from requestor_sdk.model.money import to_positive
    from requestor_sdk.networks.simulated import FaultPlan, seed_of
    from requestor_sdk.testing.simulate import Setting, run_all

    path = Path(file).resolve()
    is_python(path)
    if not has_main(path):
        raise click.UsageError(f"{file} has no `async def main(compute)` to run", ctx)
    first, runs = seed_of(options["seed"]), options["runs"]
    budget = to_positive(options["budget"], name="budget")
    setting = Setting(
        providers=options["providers"],
        faults=FaultPlan.parse(options["faults"]),
        budget=budget,
        limit=timedelta(hours=options["hours"]),
        real_sec=options["real_seconds"],
    )
    asked = _Asked(
        file=file,
        args=args,
        providers=options["providers"],
        faults=options["faults"],
        budget=options["budget"],
        bounds=_bounds(options),
    )
    progress = _Progress(runs)
    # Of many runs the program's own output would say nothing; of one it may say what went wrong.
    output = sys.stdout if runs == 1 and not options["as_json"] else _Nowhere()
    known = frozenset(sys.modules)

    def program() -> Any:
        forget_neighbours(path, known)
        return load(path).main

    with as_program(path, args), redirect_stdout(output):
        _try_loading(path, program)
        reports = run_all(program, setting, range(first, first + runs), progress.done)
    progress.clear()
    click.echo(_as_json(reports, asked) if options["as_json"] else _as_text(reports, asked, runs))
    if len(reports) < runs:
        sys.exit(_INTERRUPTED)
    sys.exit(1 if any(report.broken or report.own for report in reports) else 0)


def _bounds(options: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the options that bound a run, where they are not as by default."""
    words: list[str] = []
    if options["hours"] != _HOURS:
        words += ["--hours", str(options["hours"])]
    if options["real_seconds"] != _REAL_SEC:
        words += ["--real-seconds", str(options["real_seconds"])]
    return tuple(words)


def _try_loading(path: Path, program: Callable[[], Any]) -> None:
    """Load the program once: one that cannot be loaded would fail with every seed alike."""
    from requestor_sdk.cli._tracebacks import told

    try:
        program()
    except (Exception, SystemExit) as error:  # noqa: BLE001 - the user's own: told in full
        raise click.ClickException(f"{path.name} cannot be loaded\n{told(error, path)}") from None


class _Nowhere(TextIOBase):
    """Takes what is printed and keeps nothing of it."""

    def write(self, text: str) -> int:
        return len(text)


class _Progress:
    """Counts the runs on a terminal; says nothing elsewhere."""

    def __init__(self, runs: int) -> None:
        self._runs = runs
        self._done = 0
        self._shows = sys.stderr.isatty() and runs > 1

    def done(self, _report: RunReport) -> None:
        self._done += 1
        if self._shows:
            click.echo(f"\rrun {self._done} of {self._runs}", err=True, nl=False)

    def clear(self) -> None:
        if self._shows:
            click.echo("\r\033[K", err=True, nl=False)


# The report as text -------------------------------------------------------------------------------


def _as_text(reports: Sequence[RunReport], asked: _Asked, runs: int) -> str:
    done = f"{len(reports)} of {runs}" if len(reports) < runs else f"{runs}"
    done += " run" if runs == 1 else " runs"
    if not reports:
        return f"{asked.file}: interrupted before the first run ended"
    first, last = reports[0].seed, reports[-1].seed
    seeds = f"seeds {first} to {last}" if len(reports) > 1 else f"seed {first}"
    lines = [
        f"{asked.file}: {done}, {seeds}",
        f"{asked.providers} providers, faults {asked.faults}",
        "",
    ]
    label = "outcomes"
    for outcome, count in Counter(report.outcome for report in reports).most_common():
        lines.append(f"{label:<13}{count:>5}  {_short(outcome)}")
        shown = next(report for report in reports if report.outcome == outcome)
        if shown.error:
            # A run that is no failure is told nowhere else.
            lines.append(f"{'':<20}seed {shown.seed}: {shown.error.splitlines()[0]}")
        label = ""
    lines += _failed_instances(reports)
    lines.append(_spread("restarts", [report.restarts for report in reports]))
    lines.append(_spread("faults", [report.struck for report in reports]))
    lines.append(_spread("cost", [report.cost for report in reports], amount))
    lines.append(_spread("time", [report.seconds for report in reports], duration))
    broken = [report for report in reports if report.broken]
    own = [report for report in reports if report.own]
    lines.append(f"{'broken':<13}{len(broken):>5}  runs in which an invariant broke")
    lines += _blocks([(report, report.broken) for report in broken], asked)
    if own:
        lines.append(f"{'failed':<13}{len(own):>5}  runs in which the program itself failed")
    told = [(one, (one.outcome, *one.error.splitlines()[:6], *one.where)) for one in own]
    lines += _blocks(told, asked)
    return "\n".join(lines)


def _failed_instances(reports: Sequence[RunReport]) -> list[str]:
    """Return a line for each kind of failure of instances, whatever became of the runs."""
    lines = [
        f"  {one['count']} x {one['error']}"
        + (f" at {one['place']}" if one["place"] else "")
        + f" (seed {one['seed']})"
        + (f", {one['mended']} made good by a restart" if one["mended"] else "")
        for one in _kinds(reports)
    ]
    return ["instances that failed:", *lines] if lines else []


def _kinds(reports: Sequence[RunReport]) -> list[dict[str, Any]]:
    """Return the kinds of failures of instances, the most frequent first."""
    kinds: dict[tuple[str, str], dict[str, Any]] = {}
    for report in reports:
        for one in report.failures:
            kind = kinds.setdefault(
                (one.error, one.place),
                {
                    "error": one.error,
                    "place": one.place,
                    "text": one.text,
                    "count": 0,
                    "mended": 0,
                    "own": one.own,
                    "seed": report.seed,
                },
            )
            kind["count"] += 1
            kind["mended"] += one.mended
    return sorted(kinds.values(), key=lambda kind: -kind["count"])


def _blocks(found: Sequence[tuple[RunReport, tuple[str, ...]]], asked: _Asked) -> list[str]:
    """Return one block for all runs that ended alike: many equal ones would hide another."""
    alike: dict[tuple[str, ...], list[RunReport]] = {}
    seen: dict[tuple[str, ...], tuple[str, ...]] = {}
    for report, texts in found:
        key = (report.outcome, *report.where, *(texts if report.broken else texts[:2]))
        seen.setdefault(key, texts)
        alike.setdefault(key, []).append(report)
    lines: list[str] = []
    for key, reports in alike.items():
        seeds = ", ".join(str(report.seed) for report in reports)
        lines += [
            "",
            f"seed {seeds}" if len(reports) == 1 else f"seeds {seeds}",
            *(f"  {text}" for text in dict.fromkeys(seen[key])),
            "  repeat it:",
            f"    {asked.again(reports[0].seed)}",
        ]
    return lines


def _spread(label: str, found: Sequence[N], told: Callable[[Any], str] = "{:g}".format) -> str:
    least, middle, most = told(min(found)), told(median(found)), told(max(found))
    return f"{label:<13}  min {least}, median {middle}, max {most}"


def _short(text: str, most: int = 40) -> str:
    line = text.splitlines()[0]
    return line if len(line) <= most else line[: most - 1] + "…"


# The report as JSON -------------------------------------------------------------------------------


def _as_json(reports: Sequence[RunReport], asked: _Asked) -> str:
    rows = [
        {
            "seed": report.seed,
            "outcome": report.outcome,
            "error": report.error,
            "where": list(report.where),
            "broken": list(report.broken),
            "failed": report.own,
            "restarts": report.restarts,
            "faults": report.struck,
            "cost": exact(report.cost),
            "seconds": report.seconds,
            "failures": [asdict(one) for one in report.failures],
            "story": list(report.story),
            "again": asked.again(report.seed),
        }
        for report in reports
    ]
    return json.dumps(
        {
            "file": asked.file,
            "providers": asked.providers,
            "faults": asked.faults,
            "outcomes": dict(Counter(report.outcome for report in reports)),
            "broken": sum(1 for report in reports if report.broken),
            "instances_failed": _kinds(reports),
            "runs": rows,
        },
        indent=2,
    )
