"""A made-up run of many instances that never rest, event by event."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from decimal import Decimal

from requestor_sdk.model import events as ev

PATH = {
    "pending": ("starting",),
    "starting": ("running",),
    "running": ("unresponsive", "stopping", "pending", "suspended"),
    "unresponsive": ("running",),
    "suspended": ("running",),
    "stopping": ("pending",),
}
NAMES = ("amber", "birch", "cedar", "delta", "ember", "flint", "grove", "heath")


class Crowd:
    """Makes events, at a time of its own that ``ahead`` moves on."""

    def __init__(self, size, *, now=None, seed=1):
        self.now = now or datetime.now(UTC)
        self.dice = random.Random(seed)
        self.states = {f"i-{n + 1}": ["pending", 1, 0] for n in range(size)}
        self.spent = Decimal(0)
        self.number = 0

    def begin(self):
        yield self._at(ev.ComputationStarted, run_id="crowd", network="local", budget=Decimal(5))
        for place, service in enumerate(("Web", "Worker", "Store"), 1):
            values = {"service": service, "expiration": self.now + timedelta(hours=3)}
            yield self._at(ev.ClusterStarted, cluster_id=f"cluster-{place}", **values)
        yield self._at(ev.JobStarted, job_id="job-1", max_workers=40)
        for instance in self.states:
            yield from self._sign(instance)

    def step(self):
        """Yield what one instance does next."""
        instance = self.dice.choice(list(self.states))
        state, _, batches = self.states[instance]
        if state == "running" and self.dice.random() < 0.8:
            yield from self._work(instance, batches)
            return
        yield from self.move(instance, self.dice.choice(PATH[state]))

    def move(self, instance, new):
        row = self.states[instance]
        old = row[0]
        lost = old == "running" and new == "pending"
        row[0] = new
        row[1] += lost
        provider = self.dice.choice(NAMES)
        yield self._at(
            ev.ServiceStateChanged,
            instance_id=instance,
            cluster_id=self._cluster(instance),
            old=old,
            new=new,
            stimulus="lost" if lost else "ready",
            attempt=row[1],
            provider_id=f"0x{provider}",
            provider_name=provider,
            cause="the provider was lost" if lost else None,
        )
        if lost:
            values = {"attempt": row[1], "after_sec": 0.5}
            yield self._at(ev.ServiceRestarting, instance_id=instance, **values)
            yield from self._sign(instance)

    def end(self):
        for instance in self.states:
            yield self._at(
                ev.ServiceStateChanged,
                instance_id=instance,
                cluster_id=self._cluster(instance),
                old=self.states[instance][0],
                new="terminated",
                stimulus="stop",
                attempt=1,
            )
        yield self._at(ev.JobFinished, job_id="job-1", accepted=1)
        yield self._at(ev.ComputationFinished, run_id="crowd", spent=self.spent)

    def ahead(self, seconds):
        self.now += timedelta(seconds=seconds)

    def _at(self, kind, **values):
        return kind(at=self.now, **values)

    def _cluster(self, instance):
        return f"cluster-{int(instance[2:]) % 3 + 1}"

    def _sign(self, instance):
        self.number += 1
        provider = self.dice.choice(NAMES)
        offer = {
            "cluster_id": self._cluster(instance),
            "proposal_id": f"p-{self.number}",
            "provider_id": f"0x{provider}",
        }
        yield self._at(ev.ProposalReceived, **offer, provider_name=provider)
        yield self._at(ev.ProposalScored, **offer, score=1.0)
        yield self._at(ev.ProposalConfirmed, **offer)
        ids = {"agreement_id": f"a-{instance}-{self.number}", "provider_id": f"0x{provider}"}
        yield self._at(
            ev.AgreementCreated,
            instance_id=instance,
            **ids,
            provider_name=provider,
            held=Decimal("0.004"),
            cluster_id=self._cluster(instance),
        )
        yield self._at(ev.AgreementConfirmed, instance_id=instance, **ids)
        self.states[instance][2] = self.number

    def _work(self, instance, agreement):
        self.number += 1
        ids = {"instance_id": instance, "activity_id": f"act-{instance}"}
        script = {**ids, "script_id": f"s-{self.number}"}
        task = {"task_id": f"t-{self.number}", "job_id": "job-1"}
        yield self._at(
            ev.TaskStarted,
            **task,
            instance_id=instance,
            provider_id="0xamber",
            provider_name="amber",
            attempt=1,
        )
        yield self._at(ev.ScriptSent, **script, commands=("run /bin/work",))
        bad = self.dice.random() < 0.05
        yield self._at(ev.ScriptFinished, **script, error="exit 1" if bad else None)
        status = "failed" if bad else "accepted"
        yield self._at(ev.TaskFinished, **task, status=status, attempts=1)
        self.spent += Decimal("0.0004")
        note = {"note_id": f"n-{self.number}", "agreement_id": f"a-{instance}-{agreement}"}
        values = {"activity_id": f"act-{self.number}", "total": Decimal("0.0004")}
        yield self._at(ev.DebitNoteReceived, **note, **values)
        yield self._at(ev.DebitNoteAccepted, **note, total=Decimal("0.0004"))
