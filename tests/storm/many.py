"""Storms: `nox -s storm`, or `python tests/storm [--runs 2000] [--first 0] [--seed N]`.

Each seed is a world of its own with a program of its own, and is the same in every process. The
exit status is 1 where an invariant was broken; each seed of that kind is told with its story.
"""

from __future__ import annotations

import argparse
import gc
import logging
import multiprocessing
import os
import signal
import sys
import time
import traceback
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor

from storm.run import Report, blow

REAL_SEC = 60
"""Real seconds after which a seed counts as one that never ends."""

TOLD = 5
"""How many stories are told in full."""


class TooLong(BaseException):
    """A seed takes real time for ever: something runs in a circle."""


def _too_long(_signal, _frame) -> None:
    raise TooLong


def _prepare() -> None:
    logging.disable(logging.CRITICAL)
    signal.signal(signal.SIGALRM, _too_long)
    gc.collect()
    gc.freeze()


def one(seed: int, *, tell: bool = False) -> Report:
    signal.setitimer(signal.ITIMER_REAL, REAL_SEC, 5)
    try:
        return blow(seed, tell=tell)
    except TooLong:
        return Report(seed=seed, broken=[f"it took more than {REAL_SEC} real seconds"])
    except Exception as error:
        return Report(seed=seed, broken=[f"{error!r}\n{traceback.format_exc()}"])
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


def told(report: Report, lines: int | None = None) -> str:
    story = report.story if lines is None else report.story[-lines:]
    return "\n".join(
        [
            f"seed {report.seed}, {report.digest}: {'; '.join(report.outcome)}",
            report.world,
            *(f"  {line}" for line in story),
            *(f"BROKEN {text}" for text in report.broken),
            f"repeat it: nox -s storm -- --seed {report.seed}",
        ]
    )


def run_all(seeds: range, jobs: int) -> list[Report]:
    began, broken = time.monotonic(), []
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(jobs, mp_context=context, initializer=_prepare) as pool:
        for number, report in enumerate(pool.map(one, seeds, chunksize=5), 1):
            if report.broken:
                broken.append(report)
                _say(f"seed {report.seed}: {report.broken[0]}")
            if number % 100 == 0 or number == len(seeds):
                spent = time.monotonic() - began
                _say(f"{number} of {len(seeds)} seeds, {spent:.0f} s, {len(broken)} broken")
    return broken


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="nox -s storm --", description=__doc__)
    parser.add_argument("--runs", type=int, default=2000, help="how many seeds")
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes")
    parser.add_argument("--seed", type=int, help="repeat this one, and tell its story")
    chosen = parser.parse_args(arguments)
    if chosen.seed is not None:
        _prepare()
        report = one(chosen.seed, tell=True)
        _say(told(report))
        return 1 if report.broken else 0
    broken = run_all(range(chosen.first, chosen.first + chosen.runs), chosen.jobs)
    for report in broken[:TOLD]:
        _say(f"\n{told(report, 60)}")
    if broken:
        _say(f"\nbroken: {' '.join(str(report.seed) for report in broken)}")
        _say("repeat one: nox -s storm -- --seed N")
    return 1 if broken else 0
