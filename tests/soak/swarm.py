"""A load process: many clients of all kinds on one asyncio loop.

    python swarm.py SETTINGS      (a JSON text, see soak.py)

Answers each line of standard input with a line of JSON: `load`, `drain`
(all go but the cohort, which needs `leave`), `leave`, and `report`.
"""

from __future__ import annotations

import asyncio
import json
import logging
import random
import ssl
import sys
import time
import traceback
from typing import Any

import attacks  # noqa: F401  (adds its kinds)
from kinds import KINDS, Life
from peer import GONE, Place, Tally

STAYS = 'cohort'
LATE = 0.3  # seconds that a turn of the loop may take
LATE_LIFE = 0.7  # that excuse a client whom the server cuts off
PACE_MAX = 8.0


class Swarm:
    """The clients of this process."""

    def __init__(self, settings: dict[str, Any]) -> None:
        context = ssl.create_default_context(cafile=settings['cafile'])
        self.place = Place(settings['ports'], settings['limits'], context)
        self.scale = float(settings['scale'])
        self.only = settings.get('only')
        self.ramp = float(settings['ramp'])
        self.tallies = {name: Tally() for name in KINDS}
        self.leave: dict[bool, asyncio.Event] = {}
        self.slots: dict[asyncio.Task[None], str] = {}
        self.lag = 0.0
        self.was_late = 0.0
        self.patience = float(settings['patience'])

    def load(self) -> None:
        """Fill the slots."""
        for stays in (False, True):
            if stays not in self.leave or self.leave[stays].is_set():
                self.leave[stays] = asyncio.Event()
        present = set(self.slots.values())
        for name, kind in KINDS.items():
            if name == STAYS and name in present:
                continue
            if self.only and name not in self.only:
                continue
            count = max(1, round(kind.slots * self.scale))
            for _ in range(count):
                task = asyncio.ensure_future(self.slot(name))
                self.slots[task] = name
                task.add_done_callback(self.slots.pop)

    async def slot(self, name: str) -> None:
        """One life after the other."""
        kind, tally = KINDS[name], self.tallies[name]
        leave = self.leave[name == STAYS]
        life = Life(name, self.place, tally, leave)
        await asyncio.sleep(random.uniform(0, self.ramp))
        while not leave.is_set():
            tally.begun += 1
            began = time.monotonic()
            failure = None
            try:
                await kind.live(life)
            except Exception as error:
                failure = error
                await asyncio.sleep(0.2)  # watch() looks
            late = self.was_late > began
            tally.late += late
            if failure is None:
                tally.done += 1
            elif late and isinstance(failure, GONE):
                tally.excused += 1
            else:
                tally.fail(
                    ''.join(traceback.format_exception(failure, limit=-6))
                )
            await life.rest(kind.pause)
            if name == STAYS:
                break

    async def drain(self, all_leave: bool) -> None:
        """Have all go; those that are still there after a long time fail."""
        self.leave[False].set()
        if all_leave:
            self.leave[True].set()
        tasks = {
            task
            for task, name in self.slots.items()
            if all_leave or name != STAYS
        }
        if not tasks:
            return
        _, left = await asyncio.wait(tasks, timeout=self.patience)
        for task in left:
            name = self.slots[task]
            where = ''.join(str(frame) for frame in task.get_stack(limit=4))
            self.tallies[name].fail(
                f'still there after {self.patience} s: {where}'
            )
            task.cancel()
        if left:
            await asyncio.wait(left)

    async def watch(self) -> None:
        """Slows the clients down where this process is late."""
        loop = asyncio.get_running_loop()
        while True:
            begin = loop.time()
            await asyncio.sleep(0.1)
            late = loop.time() - begin - 0.1
            self.lag = max(self.lag, late)
            if late > LATE:
                Life.pace = min(Life.pace * 1.3, PACE_MAX)
            else:
                Life.pace = max(Life.pace * 0.997, 1.0)
            if late > LATE_LIFE:
                self.was_late = time.monotonic()

    def report(self) -> dict[str, Any]:
        lag, self.lag = self.lag, 0.0
        return {
            'lag': lag,
            'pace': Life.pace,
            'kinds': {
                name: {
                    'begun': tally.begun,
                    'opened': tally.opened,
                    'done': tally.done,
                    'late': tally.late,
                    'excused': tally.excused,
                    'sent': tally.sent,
                    'received': tally.received,
                    'ends': dict(tally.ends),
                    'failures': tally.failures,
                }
                for name, tally in self.tallies.items()
            },
        }


async def main() -> int:
    random.seed()
    # It warns of what is sent to a connection that the server has cut off.
    logging.getLogger('asyncio').setLevel(logging.ERROR)
    swarm = Swarm(json.loads(sys.argv[1]))
    watching = asyncio.ensure_future(swarm.watch())
    loop = asyncio.get_running_loop()
    lines = asyncio.StreamReader()
    await loop.connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(lines), sys.stdin
    )
    while True:
        line = (await lines.readline()).decode().strip()
        if not line:
            break
        if line == 'load':
            swarm.load()
        elif line in ('drain', 'leave'):
            await swarm.drain(line == 'leave')
        print(json.dumps(swarm.report()), flush=True)
    watching.cancel()
    return 0


if __name__ == '__main__':
    sys.exit(asyncio.run(main()))
