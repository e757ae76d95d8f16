"""The world of a storm: providers of all kinds and a plan of faults, drawn from a seed."""

from __future__ import annotations

import dataclasses
from decimal import Decimal

from requestor_sdk import Settings
from requestor_sdk.model.money import LinearPricing
from requestor_sdk.networks.simulated import (
    CALLS,
    PLANS,
    AnsweringTwice,
    Fault,
    FaultPlan,
    Lying,
    NeverAnswering,
    Overcharging,
    ProgramResult,
    Refusing,
    SimulatedNetwork,
    SimulatedProvider,
    Slow,
    TerminatingEarly,
    Unreachable,
    Vanishing,
    crash_daemon,
    crash_provider,
    crash_requestor,
    delay,
    drop,
    duplicate,
    error,
    reorder,
)

HONEST = 2
"""How many providers of each world are honest, and have room for all: for the calm afterwards."""

ROOMY = 64

PROGRAMS = {
    "sleep": lambda argv, _files: ProgramResult(seconds=float(argv[1])),
    "false": 1,
    "work": lambda argv, _files: f"did {argv[1]}\n",
}


def behaviour(dice):
    """Any behaviour, with any of its options."""
    times = dice.choice((None, 1, 3))
    after = (0.0, dice.choice((1.0, 30.0, 300.0)))
    return dice.choice(
        (
            lambda: Slow(seconds=(0.0, dice.choice((1.0, 10.0)))),
            lambda: Vanishing(
                after=after,
                seen_as=dice.choice(("lost", "silent", "nothing")),
                back_after=dice.choice((None, (1.0, 100.0))),
            ),
            lambda: Unreachable(
                after=after,
                seconds=(1.0, dice.choice((10.0, 90.0))),
                seen_as=dice.choice(("silent", "nothing")),
            ),
            lambda: Refusing(what=dice.choice(("proposal", "agreement", "activity")), times=times),
            lambda: NeverAnswering(
                what=dice.choice(("proposal", "agreement", "activity", "batch", "end")),
                times=times,
            ),
            lambda: Overcharging(
                how=dice.choice(("total", "usage", "falling", "invoice", "late", "none", "second")),
                factor=dice.choice((1.5, 3.0, 100.0)),
                after=(0.0, 400.0),
            ),
            lambda: Overcharging(how=dice.choice(("total", "usage", "invoice")), factor=1.5),
            lambda: Lying(how=dice.choice(("ready", "terminated", "unresponsive")), after=after),
            lambda: AnsweringTwice(what=dice.choice(("proposal", "result", "note", "invoice"))),
            lambda: TerminatingEarly(what=dice.choice(("agreement", "activity")), after=after),
        )
    )()


def provider(dice, number):
    honest = number < HONEST
    behaviours = () if honest else tuple(behaviour(dice) for _ in range(dice.choice((0, 1, 1, 2))))
    slow = dice.random() < 0.3
    price = 1 if behaviours else 4  # those that misbehave are the cheapest, and are met
    return SimulatedProvider(
        name=f"p{number}",
        behaviour=behaviours,
        pricing=LinearPricing(
            coeffs=(
                Decimal(price * dice.randrange(1, 9)) / 10**6,
                Decimal(price * dice.randrange(9)) / 10**6,
            ),
            fixed=Decimal(dice.choice((0, 0, 5, 50))) / 10**5,
        ),
        latency=dice.choice((None, 0.0, (0.0, 1.0))),
        capacity=ROOMY if honest else dice.choice((1, 2, 5, 64)),
        open_offers=dice.choice((1, 3, 16)),
        deploy_sec=(0.0, 5.0) if slow else 0.0,
        start_sec=(0.0, 5.0) if slow else 0.0,
        command_sec=(0.0, 2.0) if slow else 0.0,
        debit_note_sec=dice.choice((10.0, 50.0, 600.0)),
        idle_sec=dice.choice((20.0, 180.0)),
        multi_activity=dice.random() < 0.6,
        programs=PROGRAMS,
    )


def action(dice):
    """Any fault of a call, the death of the requestor apart."""
    after = dice.random() < 0.4
    return dice.choice(
        (
            lambda: delay((0.0, dice.choice((1.0, 20.0))), after=after),
            lambda: drop(dice.choice((30.0, (1.0, 10.0)))),
            duplicate,
            reorder,
            lambda: error(
                dice.choice(("400", "404", "408", "410", "500", "503", "refused")), after=after
            ),
            lambda: crash_provider(dice.choice((None, (1.0, 100.0))), after=after),
            lambda: crash_daemon((1.0, dice.choice((5.0, 60.0))), after=after),
        )
    )()


def call(dice):
    port = dice.choice(("market", "activities", "payments", "transfers"))
    return dice.choice(("*", f"{port}.*", dice.choice(CALLS), dice.choice(CALLS)))


def fault(at_call, what, **when):
    """A fault; a transfer lasts, so that there is no moment after it and no second one."""
    if at_call.startswith("transfers."):
        what = reorder() if what.kind == "duplicate" else dataclasses.replace(what, after=False)
    return Fault(call=at_call, action=what, **when)


def plan(dice):
    """A few faults at single steps, a mixture of them all the time, or the storm that is shipped.

    One in three worlds kills the requestor somewhere, too.
    """
    faults = FaultPlan()
    kind = dice.choice(("none", "steps", "steps", "mixture", "mixture", "storm"))
    if kind == "storm":
        # The providers of this world have behaviours of their own already.
        faults = FaultPlan(*(f for f in PLANS["storm"].faults if f.call != "provider"))
    elif kind == "steps":
        made = (
            fault(call(dice), at=dice.choice((1, 2, 3, 5, 9, 20)), what=action(dice))
            for _ in range(dice.randrange(1, 8))
        )
        faults = FaultPlan(*made)
    elif kind == "mixture":
        made = (
            fault(call(dice), p=dice.choice((0.01, 0.03, 0.1, 0.3)), what=action(dice))
            for _ in range(dice.randrange(1, 6))
        )
        faults = FaultPlan(*made)
    if dice.random() < 0.35:
        dies = crash_requestor(after=dice.random() < 0.5)
        faults = FaultPlan(fault(call(dice), dies, at=dice.randrange(1, 80))) + faults
    return faults


def draw_network(dice, seed):
    """The simulated network of a seed."""
    providers = [provider(dice, n) for n in range(dice.choice((2, 4, 8)))]
    dice.shuffle(providers)
    latency = dice.choice((0.0, 0.0, 0.05, (0.0, 0.5)))
    return SimulatedNetwork(providers, seed=seed, faults=plan(dice), latency=latency)


def draw_settings(dice):
    return Settings(
        start_timeout=20,
        stop_grace=3,
        shutdown_timeout=10,
        close_timeout=2,
        unresponsive_after=6,
        unresponsive_deadline=15,
        reset_timeout=5,
        release_timeout=dice.choice((5, 15)),
        invoice_timeout=dice.choice((0, 10)),
        invoice_deadline=dice.choice((30, 300)),
        leave_timeout=dice.choice((60, 90)),
        draft_lifetime=dice.choice((10, 300)),
        mailbox_size=4,
        proposals_kept=dice.choice((2, 1000)),
    )
