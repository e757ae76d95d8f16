"""A made-up provider: rows of a page as its store would give them, at a time of one's own."""

from __future__ import annotations

BAD = "<img src=x onerror=document.title='owned'>"


class Made:
    """Makes rows; times are seconds before now."""

    def __init__(self, now):
        self.now = now
        self.rows = []

    def about(self, **values):
        told = {"name": "/data/c2d", "served": True, "lost_sec": 30.0, "trouble": ""}
        self.rows.append({"kind": "provider", "id": "", **told, **values})
        return self

    def queue(self, **values):
        told = {"preparing": 0, "waiting": 0, "running": 0, "succeeded": 0, "failed": 0}
        told |= {"stopped": 0, "open_in": {}}
        self.rows.append({"kind": "queue", "id": "", **told, **values})
        return self

    def worker(self, name, heard, **values):
        told = {"draining": False, "tags": [], "cpu": 4.0, "ram_mb": 8192, "disk_mb": 9000}
        told |= {"gpus": 0, "vram_mb": 0, "created": self.now - 9000}
        seen = 0 if heard is None else self.now - heard
        self.rows.append({"kind": "worker", "id": name, "seen": seen, **told, **values})
        return self

    def job(self, name, created, *attempts, ended=None, **values):
        told = {"owner": "0x" + "1" * 40, "runs": "own code", "datasets": 1, "text": "waits"}
        told |= {"environment": "free", "outcome": "", "error": "", "line": 0, "size": 0}
        told |= {"max_attempts": 3, "stopping": False, "created": self.now - created}
        told["finished"] = None if ended is None else self.now - ended
        told["attempts"] = list(attempts)
        self.rows.append({"kind": "job", "id": name, **told, **values})
        return self

    def attempt(self, number, worker, begun, ended=None, **values):
        told = {"ending": "", "reason": "", "stage": "running", "progress": None, "cpu": 1.0}
        told |= {"ram_mb": 1024, "gpus": 0, "vram_mb": 0, "begun": self.now - begun}
        until = None if ended is None else self.now - ended
        return {"number": number, "worker": worker, "ended": until, **told, **values}
