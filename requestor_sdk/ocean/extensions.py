"""What our own server adds to the protocol, and how a client knows it by ``GET /``.

Clients of others see nothing of it: all of it is asked for, or is one more key of an object.

- ``GET /`` answers ``"software": SOFTWARE``.
- ``GET /api/services/compute`` with ``wait`` (seconds) and ``seen`` (the status's number that the
  caller has): the answer is held until the job of ``jobId`` has another number or is over, or the
  time has passed. With ``attempt`` (the one that the caller knows of), also until there is another.
- ``GET /api/services/computeStreamableLogs`` begins at the log's beginning, goes on until the job
  is over, and answers for jobs that are over, too; in plain text.
- A job object says what became of the job (``outcome``, see ``JobOutcome``) and why (``error``),
  and which worker has it or had it last (``worker``), at which attempt (``attempt``).
"""

from __future__ import annotations

from typing import Final

SOFTWARE: Final = "requestor-sdk"
WAIT: Final = "wait"
SEEN: Final = "seen"
WORKER: Final = "worker"
ATTEMPT: Final = "attempt"
LONGEST_WAIT_SEC: Final = 30.0
"""A longer ``wait`` is taken for this."""
