"""A process that writes a journal until it is killed: `journal_writer.py FILE NUMBER`.

After each event that is on record it prints the event's number; after the last one it waits.
"""

import sys
from datetime import UTC, datetime
from decimal import Decimal

from requestor_sdk.model import events as ev
from requestor_sdk.observe.journal import journal_at

AT = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)


def event(number):
    if number == 1:
        return ev.ComputationStarted(at=AT, run_id="r-1", network="local", budget=Decimal(1))
    if number % 20:
        return ev.CustomEvent(at=AT, name=str(number), text="x" * (number % 400))
    return ev.DebitNoteAccepted(at=AT, note_id=str(number), agreement_id="a", total=Decimal(number))


def main():
    journal = journal_at(sys.argv[1])
    for number in range(1, int(sys.argv[2]) + 1):
        journal.append(event(number))
        sys.stdout.write(f"{number}\n")
        sys.stdout.flush()
    if sys.argv[3:] == ["close"]:
        journal.close()
        return
    sys.stdin.read()


if __name__ == "__main__":
    main()
