"""Goes through scenarios again and again, each time with another single
fault:

    python tests/faults/sweep.py LIBRARY TRUST CERTIFICATE KEY GROUPS DEPTH \
        [SCENARIO]...

GROUPS: those of the injector, added up. DEPTH: how many of the calls that a
scenario makes at one place are to fail, each in a run of its own; 0: all.
Prints what was found and ends with status 1 if that is anything.
"""

from __future__ import annotations

import faulthandler
import gc
import os
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from errno import EAGAIN, ECONNRESET, EINTR, EMFILE, ENOBUFS, ENOMEM, EPIPE
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))

from injector import SHORT, SYSTEM, Injector, Place

# One run that takes longer hangs.
LIMIT = 20.0
# One that takes longer has waited for something that did not come.
SLOW = 4.0

# How calls of the system fail. What can fail in more than one way that the
# program tells apart has each of them.
CODES: dict[str, tuple[int, ...]] = {
    'recv': (EINTR, EAGAIN, ECONNRESET, SHORT),
    'read': (EINTR, SHORT),
    'send': (EINTR, EAGAIN, ECONNRESET, EPIPE, ENOBUFS, SHORT),
    'sendmsg': (EINTR, EAGAIN, ECONNRESET, EPIPE, ENOBUFS, SHORT),
    'write': (EINTR,),
    'getrandom': (EINTR, SHORT, ENOMEM),
    'accept4': (EINTR, EMFILE, ENOBUFS, 103),
    'poll': (EINTR, SHORT, ENOMEM),
    'epoll_wait': (EINTR, SHORT),
    'epoll_ctl': (ENOMEM,),
    'socket': (EMFILE, ENOBUFS),
    'connect': (EINTR, ENOBUFS),
    'pthread_create': (EAGAIN,),
}
OTHERWISE = (ENOMEM,)

# What these calls say for a while only is not for the program to know.
MOVING = (
    'recv', 'read', 'send', 'sendmsg', 'write', 'getrandom', 'poll',
    'epoll_wait', 'accept4',
)  # fmt: skip
HARMLESS = (EINTR, EAGAIN, SHORT)


def codes(place: Place, groups: int) -> tuple[int, ...]:
    """In which ways a call there fails."""
    return CODES.get(place.name, OTHERWISE) if groups & SYSTEM else (0,)


class Sweep:
    """See the top."""

    def __init__(self, injector: Injector, groups: int, depth: int) -> None:
        import scenarios

        self.injector = injector
        self.groups = groups
        self.depth = depth
        self.problems: list[str] = []
        self.runs = 0
        self.errors: list[BaseException] = []  # that nobody has caught
        self.counts_memory = True
        self.harmless = False  # what fails now may not be told at all
        self.types = injector.attach_types(scenarios.twspy._twspy)
        self.allowed = self._allowed()
        sys.unraisablehook = lambda hook: self._take(hook.exc_value)
        threading.excepthook = lambda hook: self._take(hook.exc_value)

    def _allowed(self) -> tuple[type[BaseException], ...]:
        """A client may be told, or be dropped by the server."""
        import scenarios

        return (MemoryError, scenarios.twspy.WebSocketError, OSError)

    def _take(self, error: BaseException | None) -> None:
        if error is not None:
            self.errors.append(error.with_traceback(error.__traceback__))

    def judge(self, error: BaseException | None) -> str | None:
        """What is wrong with how a run has ended."""
        if error is None or (
            not self.harmless
            and isinstance(error, self.allowed)
            and not isinstance(error, TimeoutError)
        ):
            return None
        return ''.join(traceback.format_exception(error))

    def state(self) -> dict[str, int]:
        """What a run leaves behind."""
        found = {t.__name__: sys.getrefcount(t) for t in self.types}
        if self.counts_memory:
            found['memory'] = self.injector.live()
        found['descriptors'] = len(os.listdir('/proc/self/fd'))
        found['threads'] = threading.active_count()
        return found

    def run(self, act: Callable[[Any], None], park: Any) -> str | None:
        """One run, and the problem with it."""
        error: BaseException | None = None
        self.errors.clear()
        with alarm(LIMIT):
            try:
                act(park)
            except BaseException as caught:
                error = caught
            self.runs += 1
            fired = self.injector.disarm()
            problem = self.judge(error)
            if error is not None and not fired:
                problem = f'without a fault: {traceback.format_exc()}'
            del error
            self.errors = [e for e in self.errors if self.judge(e)]
            if problem is None and self.errors:
                problem = f'uncaught: {self.judge(self.errors[0])}'
        return problem

    def check(self, act: Callable[[Any], None], park: Any) -> str | None:
        """All works as before."""
        try:
            with alarm(LIMIT):
                act(park)
                park.check()
        except BaseException:
            return f'afterwards: {traceback.format_exc()}'
        return None

    def warm(self, act: Callable[[Any], None], park: Any) -> str | None:
        """Until what it keeps for the next time does not grow."""
        steady = 0
        most = 0
        while steady < 3:
            problem = self.check(act, park)
            if problem is not None:
                return problem
            live = self.injector.live()
            steady = steady + 1 if live <= most else 0
            most = max(live, most)
        return None

    def grown(
        self,
        act: Callable[[Any], None],
        park: Any,
        arm: Callable[[], None],
        before: dict[str, int],
    ) -> str | None:
        """What a fault leaves behind each time. Threads and pools may go up
        and down; a leak only goes up."""
        first = {}
        for attempt in range(4):
            after = settled(self.state, before)
            more = {k: v - before[k] for k, v in after.items()}
            more = {
                k: v
                for k, v in more.items()
                if v > 0 and (attempt == 0 or k in first)
            }
            if not more:
                return None
            first = more
            before = after
            arm()
            self.run(act, park)
            problem = self.check(act, park)
            if problem is not None:
                return problem
        before = settled(self.state, {})
        for _ in range(4):  # caches may just be filling
            self.check(act, park)
        after = settled(self.state, before)
        first = {k: v for k, v in first.items() if after[k] - before[k] < 4}
        return f'is left behind each time: {first}' if first else None

    def sweep(self, name: str, park: Any) -> int:
        """How many faults there were."""
        import scenarios

        act = scenarios.SCENARIOS[name]
        # The client has a session more with each server that it meets.
        self.counts_memory = name != 'started-tls'
        gc.collect()
        problem = self.warm(act, park)
        if problem is not None:
            self.problems.append(f'{name}: {problem}')
            print(self.problems[-1], flush=True)
            return 0
        with self.injector.recording(self.groups) as places:
            act(park)
            park.check()
        faults = 0
        only = os.environ.get('TWSPY_FAULTS_ONLY')  # for looking into one
        for place in places:
            if only is not None and only not in str(place):
                continue
            depth = min(place.times, self.depth or place.times)
            for skip in range(depth):
                for code in codes(place, self.groups):
                    self.one(
                        f'{name}: {place} #{skip} ({code})',
                        act,
                        park,
                        place,
                        skip,
                        code,
                    )
                    faults += 1
        return faults

    def one(
        self,
        title: str,
        act: Callable[[Any], None],
        park: Any,
        place: Place,
        skip: int,
        code: int,
    ) -> None:
        """One fault."""

        def arm() -> None:
            self.injector.arm(place, skip, 1, code)

        if os.environ.get('TWSPY_FAULTS_VERBOSE'):
            print(title, flush=True)
        before = self.state()
        self.harmless = place.name in MOVING and code in HARMLESS
        arm()
        began = time.monotonic()
        problem = self.run(act, park)
        took = time.monotonic() - began
        problem = problem or self.check(act, park)
        if problem is None and took > SLOW:
            arm()  # or else the machine was busy
            began = time.monotonic()
            problem = self.run(act, park) or self.check(act, park)
            took = min(took, time.monotonic() - began)
            if problem is None and took > SLOW:
                problem = f'took {took:.1f} s'
        problem = problem or self.grown(act, park, arm, before)
        if problem is not None:
            self.problems.append(f'{title}: {problem}')
            print(f'{title}: {problem}', flush=True)


def settled(
    state: Callable[[], dict[str, int]], before: dict[str, int]
) -> dict[str, int]:
    """The state, once it is as before or does not change any more."""
    now = state()
    for attempt in range(20):
        if before and all(now[k] <= before[k] for k in now):
            break
        if attempt % 8 == 0:
            gc.collect()
        time.sleep(0.001)
        now = state()
    return now


@contextmanager
def alarm(seconds: float) -> Iterator[None]:
    """What hangs ends the program, with the stacks of all threads."""
    faulthandler.dump_traceback_later(seconds, exit=True)
    try:
        yield
    finally:
        faulthandler.cancel_dump_traceback_later()


def main(
    library: str, cafile: str, certfile: str, keyfile: str, groups: str,
    depth: str, *names: str,
) -> int:  # fmt: skip
    faulthandler.enable()
    injector = Injector(library)
    import scenarios

    with scenarios.quiet():
        sweep = Sweep(injector, int(groups), int(depth))
        for name in names or scenarios.SCENARIOS:
            park = scenarios.Park(cafile, certfile, keyfile)
            began = time.monotonic()
            faults = sweep.sweep(name, park)
            took = time.monotonic() - began
            print(f'{name}: {faults} faults in {took:.1f} s', flush=True)
            with alarm(LIMIT):
                park.close()
    return 1 if sweep.problems else 0


if __name__ == '__main__':
    sys.exit(main(*sys.argv[1:]))
