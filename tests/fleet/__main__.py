"""``nox -s fleet``: 200 jobs over 4 workers that are killed, and a server that is, too."""

from __future__ import annotations

import argparse
import asyncio
import os
import shutil
import sys
import tempfile
from datetime import datetime
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from fleet.killing import storm


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=200)
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--kill-every", type=float, default=4.0, help="seconds")
    parser.add_argument("--seed", type=int, default=0)
    chosen = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="requestor-fleet-"))
    os.environ["REQUESTOR_SDK_HOME"] = str(folder / "home")

    def tell(line: str) -> None:
        print(f"{datetime.now():%H:%M:%S} {line}", flush=True)

    try:
        asyncio.run(
            storm(
                folder,
                jobs=chosen.jobs,
                workers=chosen.workers,
                kill_every=chosen.kill_every,
                seed=chosen.seed,
                tell=tell,
            )
        )
    except BaseException:
        print(f"what is left to be looked at lies in {folder}", flush=True)
        raise
    shutil.rmtree(folder)
    print("each job ended exactly once, right, with its log; nothing is left")


if __name__ == "__main__":
    main()
