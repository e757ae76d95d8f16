"""Benchmarks: one JSON object a line, `nox -s bench [-- NAME...]`.

    {"name", "value", "unit", "floor", "peer", "ratio", "n"}

`floor` is what the least that could do the job takes here, `peer` what another program takes for
the same job; both in the unit of the value, measured in the same run, null where there is none.
`ratio` is value / peer, or value / floor where there is no peer. `n` is how many times it was
measured; the value is the median. These are no tests: nothing fails for being slow.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Callable

import c2d
import commandline
import endpoints
import engine
import files
import golem
import local
from measure import Result

BENCHES: dict[str, Callable[[str], Result]] = {
    "import_ms": commandline.import_ms,
    "help_ms": commandline.help_ms,
    "local_first_running_ms": local.first_running_ms,
    "local_100_running_s": local.hundred_running_s,
    "local_batch_ms": local.batch_ms,
    "local_idle_cpu_percent": local.idle_cpu_percent,
    "engine_10k_vs_floor": engine.ten_thousand_vs_floor,
    "engine_10k_over_1k": engine.ten_thousand_over_one_thousand,
    "idle_instance_kib": engine.idle_instance_kib,
    "events_per_s": engine.events_per_s,
    "golem_20_vs_floor": golem.twenty_vs_floor,
    "golem_20_vs_yapapi": golem.twenty_vs_yapapi,
    "golem_50_vs_floor": golem.fifty_vs_floor,
    "golem_batch_vs_floor": golem.batch_vs_floor,
    "golem_batches_vs_floor": golem.batches_vs_floor,
    "gftp_mb_s": files.gftp_mb_s,
    "c2d_submit_to_finished_ms": c2d.submit_to_finished_ms,
    "c2d_status_per_s": c2d.status_per_s,
    "c2d_start_per_s": c2d.start_per_s,
    "c2d_result_mb_s": c2d.result_mb_s,
    "runc_sandbox_ms": local.runc_sandbox_ms,
    "handlers_import_ms": endpoints.import_ms,
    "handlers_1_vs_ogpu": endpoints.one_vs_ogpu,
    "handlers_1_short_vs_long": endpoints.one_short_vs_long,
    "handlers_64_vs_ogpu": endpoints.many_vs_ogpu,
    "handlers_64_p99_ms": endpoints.many_p99_ms,
    "handlers_sync_1_vs_ogpu": endpoints.sync_one_vs_ogpu,
    "handlers_sync_64_vs_ogpu": endpoints.sync_many_vs_ogpu,
}


def main(names: list[str]) -> int:
    unknown = [name for name in names if name not in BENCHES]
    if unknown:
        sys.stderr.write(f"no benchmark {', '.join(unknown)}; there is {', '.join(BENCHES)}\n")
        return 2
    with tempfile.TemporaryDirectory(prefix="requestor-sdk-bench-") as home:
        os.environ["REQUESTOR_SDK_HOME"] = home
        for name in names or BENCHES:
            sys.stdout.write(f"{BENCHES[name](name).line()}\n")
            sys.stdout.flush()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
