"""A batch of tasks: the Mandelbrot set in tiles, computed in sandboxes, put together to a PNG."""

from __future__ import annotations

import argparse
import asyncio
import math
import struct
import zlib
from array import array
from collections.abc import AsyncIterator, Iterator
from dataclasses import asdict, dataclass
from datetime import timedelta
from pathlib import Path

from requestor_sdk import Compute, Script, Task, WorkContext
from requestor_sdk.payload import VmPayload

TILE_PROGRAM = """\
import array, json, math, sys

tile = json.load(open(sys.argv[1]))
limit, pixels = tile["limit"], array.array("H")
for row in range(tile["height"]):
    y = tile["y"] - row * tile["step"]
    for column in range(tile["width"]):
        c = complex(tile["x"] + column * tile["step"], y)
        z, n = 0j, 0
        while n < limit and z.real * z.real + z.imag * z.imag < 64:
            z, n = z * z + c, n + 1
        depth = 0 if n == limit else n + 4 - math.log2(math.log2(abs(z)))
        pixels.append(min(65535, max(0, int(100 * depth))))
with open(sys.argv[2], "wb") as out:
    pixels.tofile(out)
"""

CENTER = complex(-0.7, 0)
WIDTH = 3.45
ITERATIONS = 200
SIDE = 60


@dataclass(frozen=True)
class Tile:
    """A part of the picture: where it lies, in pixels and in the plane."""

    left: int
    top: int
    width: int
    height: int
    x: float
    y: float
    step: float
    limit: int = ITERATIONS


def tiles(width: int, height: int) -> Iterator[Tile]:
    step = WIDTH / width
    for top in range(0, height, SIDE):
        for left in range(0, width, SIDE):
            yield Tile(
                left=left,
                top=top,
                width=min(SIDE, width - left),
                height=min(SIDE, height - top),
                x=CENTER.real + (left - width / 2) * step,
                y=CENTER.imag - (top - height / 2) * step,
                step=step,
            )


async def worker(
    ctx: WorkContext, tasks: AsyncIterator[Task[Tile, bytes]]
) -> AsyncIterator[Script]:
    script = ctx.new_script()
    script.upload_bytes(TILE_PROGRAM.encode(), "/tmp/tile.py")
    yield script
    async for task in tasks:
        script = ctx.new_script(timeout=timedelta(minutes=2))
        script.upload_json(asdict(task.data), "/tmp/tile.json")
        script.run("/usr/bin/env", "python3", "/tmp/tile.py", "/tmp/tile.json", "/tmp/pixels")
        pixels = script.download_bytes("/tmp/pixels")
        yield script
        found = await pixels
        if len(found) == 2 * task.data.width * task.data.height:
            task.accept_result(found)
        else:
            task.reject_result(f"{len(found)} bytes")


def colour(depth: int) -> bytes:
    """Return red, green and blue of a depth; the set itself, of depth 0, is black."""
    if depth == 0:
        return b"\0\0\0"
    turn = math.sqrt(depth / 100) * 0.9
    waves = (math.cos(turn + phase) for phase in (2.9, 2.2, 1.3))
    return bytes(int(255 * (0.5 + 0.5 * wave)) for wave in waves)


class Picture:
    """Rows of pixels that tiles are put into."""

    def __init__(self, width: int, height: int) -> None:
        self.width = width
        self.rows = [bytearray(3 * width) for _ in range(height)]

    def put(self, tile: Tile, found: bytes) -> None:
        depths = array("H", found)
        for row in range(tile.height):
            line = depths[row * tile.width : (row + 1) * tile.width]
            start = 3 * tile.left
            self.rows[tile.top + row][start : start + 3 * tile.width] = b"".join(map(colour, line))

    def png(self) -> bytes:
        def chunk(kind: bytes, data: bytes) -> bytes:
            check = zlib.crc32(kind + data)
            return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", check)

        header = struct.pack(">IIBBBBB", self.width, len(self.rows), 8, 2, 0, 0, 0)
        lines = b"".join(b"\0" + row for row in self.rows)
        return (
            b"\x89PNG\r\n\x1a\n"
            + chunk(b"IHDR", header)
            + chunk(b"IDAT", zlib.compress(lines, 9))
            + chunk(b"IEND", b"")
        )


async def main() -> None:
    args = parse_arguments()
    width, height = args.size, args.size * 2 // 3
    wanted = list(tiles(width, height))
    picture = Picture(width, height)
    async with Compute(
        budget=args.budget, network=args.network, subnet_tag=args.subnet_tag
    ) as compute:
        done = compute.execute_tasks(
            worker,
            wanted,
            VmPayload(min_mem_gib=0.25),
            max_workers=args.num_workers,
            timeout=timedelta(minutes=15),
            task_timeout=timedelta(minutes=3),
        )
        number = 0
        async for task in done:
            number += 1
            picture.put(task.data, task.result)
            where = task.attempts[-1].provider_name
            seconds = task.running_time.total_seconds() if task.running_time else 0
            print(f"tile {number} of {len(wanted)}: {where}, {seconds:.1f} s", flush=True)
    args.out.write_bytes(picture.png())
    print(f"{args.out}: {width} x {height} pixels")
    print(f"spent {compute.budget.spent.normalize():f} of {compute.budget.total.normalize():f}")


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--network", default="local")
    parser.add_argument("--subnet-tag", default=None)
    parser.add_argument("--budget", default="1", help="tokens that may be spent (default: 1)")
    parser.add_argument("--num-workers", type=int, default=3)
    parser.add_argument("--size", type=int, default=360, help="width in pixels (default: 360)")
    parser.add_argument("--out", type=Path, default=Path("mandelbrot.png"))
    return parser.parse_args()


if __name__ == "__main__":
    asyncio.run(main())
