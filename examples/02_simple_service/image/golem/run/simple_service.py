#!/usr/bin/env python3
"""Keeps observations in SQLite and reports statistics of them as JSON.

Runs inside the instance; needs the standard library only.
"""

import argparse
import json
import math
import os
import sqlite3
import time
from contextlib import closing
from pathlib import Path

DATABASE = Path(os.environ.get("HOME", "/tmp")) / "observations.db"

SCHEMA = """
CREATE TABLE IF NOT EXISTS observations (
    id INTEGER PRIMARY KEY,
    observed_at REAL NOT NULL,
    value REAL NOT NULL
)
"""

STATS = """
SELECT count(*), min(value), max(value), avg(value), avg(value * value),
       max(observed_at) - min(observed_at)
FROM observations
"""


def connect() -> sqlite3.Connection:
    """Open the database; the simulation writes to it at the same time."""
    connection = sqlite3.connect(DATABASE, timeout=10)
    connection.execute(SCHEMA)
    return connection


def add(connection: sqlite3.Connection, values: list[float]) -> None:
    """Store observations, all of this moment."""
    now = time.time()
    with connection:
        connection.executemany(
            "INSERT INTO observations (observed_at, value) VALUES (?, ?)",
            [(now, value) for value in values],
        )


def stats(connection: sqlite3.Connection) -> dict[str, float | None]:
    """Return what SQL makes of all observations; amounts are None where there are none."""
    count, least, most, mean, mean_of_squares, seconds = connection.execute(STATS).fetchone()
    if not count:
        return {"count": 0, "min": None, "max": None, "mean": None, "stddev": None, "seconds": 0.0}
    variance = max(0.0, mean_of_squares - mean * mean)
    return {
        "count": count,
        "min": round(least, 3),
        "max": round(most, 3),
        "mean": round(mean, 3),
        "stddev": round(math.sqrt(variance), 3),
        "seconds": round(seconds, 2),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    group = parser.add_mutually_exclusive_group(required=True)
    group.add_argument("--add", type=float, nargs="+", metavar="VALUE", help="store observations")
    group.add_argument("--stats", action="store_true", help="print statistics as JSON")
    group.add_argument("--last", type=int, metavar="N", help="print the last N values as JSON")
    group.add_argument("--clear", action="store_true", help="forget all observations")
    args = parser.parse_args()
    with closing(connect()) as connection:
        if args.add:
            add(connection, args.add)
        elif args.stats:
            print(json.dumps(stats(connection)))
        elif args.clear:
            with connection:
                connection.execute("DELETE FROM observations")
        else:
            rows = connection.execute(
                "SELECT value FROM observations ORDER BY id DESC LIMIT ?", (args.last,)
            )
            print(json.dumps([round(value, 3) for (value,) in rows][::-1]))


if __name__ == "__main__":
    main()
