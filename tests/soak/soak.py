"""Runs a server and everything that may come to it, for minutes, and checks
that nothing is lost, nothing is left and nobody stays who must go.

    python tests/soak/soak.py [MINUTES]       (10)

tests/soak/README.md says what is measured. Ends with status 1, and says why,
where a check fails.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

import attacks  # noqa: E402, F401  (adds its kinds)
from kinds import KINDS  # noqa: E402

KIB, MIB = 1 << 10, 1 << 20
TICKS = os.sysconf('SC_CLK_TCK')
ANSWER_TIME = 120.0
BUSY = 2000  # clients that must be there at a time, in a full load
RSS_GROWTH = 0.01  # of the memory at the end of the warm-up
HEAP_GROWTH = 512 * KIB  # of what C has allocated
HEAP_GROWTH_BRIEF = MIB  # as a brief run does not warm up
MOST_THREADS = 300
# glibc keeps what threads have freed in an arena and a cache for each of them.
# With one arena that does not adapt its thresholds, and no caches, what is
# resident follows what is in use.
MALLOC = {
    'GLIBC_TUNABLES': 'glibc.malloc.tcache_count=0',
    'MALLOC_ARENA_MAX': '1',
    'MALLOC_MMAP_THRESHOLD_': str(128 * KIB),
    'MALLOC_TRIM_THRESHOLD_': str(128 * KIB),
}
LIMITS = {
    'open_timeout': 15.0,
    'close_timeout': 5.0,
    'ping_interval': 4.0,
    'ping_timeout': 15.0,
    'send_timeout': 12.0,
    'max_size': 256 * KIB,
    'max_queue': 256 * KIB,
}
BRIEF = {  # in a run of less than two minutes
    'open_timeout': 3.0,
    'close_timeout': 1.0,
    'ping_interval': 1.5,
    'ping_timeout': 3.0,
    'send_timeout': 3.0,
}
CYCLE = 75.0  # seconds from one quiet point to the next
# How the server ends clients that are late, as their process was; and how
# many lives, at most, may end like that.
LATE_ENDS = {'1006 keepalive', '1006 us', '1006 limit', '1006 network'}
MOST_LATE = 0.02
OUR_ENDS = {
    'our-closed': {'4002 us'},
    'cut-ours': {'1006 peer', '1006 network'},
}
INEXACT = {'cut-ours'}
PLANTS = ('lost', 'descriptor', 'leak', 'spared')


COUNTED = (
    'begun',
    'opened',
    'done',
    'late',
    'excused',
    'sent',
    'received',
)


class Failure(Exception):
    """The run itself can't go on."""


class Program:
    """A process that is asked by lines and answers with JSON."""

    def __init__(self, name: str, settings: dict[str, Any], log: Any) -> None:
        self.name = name
        path = os.pathsep.join((str(HERE.parent), str(HERE)))
        self.process = subprocess.Popen(
            [
                sys.executable,
                '-Wdefault::ResourceWarning',
                '-Xfaulthandler',
                str(HERE / f'{name}.py'),
                json.dumps(settings),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            env={**os.environ, **MALLOC, 'PYTHONPATH': path},
        )
        self.pid = self.process.pid

    def begin(self, word: str) -> None:
        assert self.process.stdin is not None
        try:
            self.process.stdin.write(word + '\n')
            self.process.stdin.flush()
        except OSError as error:
            raise Failure(f'{self.name} does not listen: {error}') from error

    def answer(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            status = self.process.wait()
            raise Failure(f'{self.name} ended with {status}')
        found: dict[str, Any] = json.loads(line)
        return found

    def ask(self, word: str) -> dict[str, Any]:
        self.begin(word)
        return self.answer()

    def status(self, field: str) -> int:
        """A number of /proc/PID/status: proc(5)."""
        text = Path(f'/proc/{self.pid}/status').read_text()
        return int(text.split(f'{field}:')[1].split()[0])

    def memory(self) -> int:
        return self.status('RssAnon') * KIB

    def descriptors(self) -> int:
        return len(os.listdir(f'/proc/{self.pid}/fd'))

    def processor(self) -> float:
        """Seconds of user and system time."""
        text = Path(f'/proc/{self.pid}/stat').read_text()
        fields = text.rpartition(')')[2].split()
        return (int(fields[11]) + int(fields[12])) / TICKS

    def end(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.communicate()


class Soak:
    """One run."""

    def __init__(self, options: argparse.Namespace, directory: Path) -> None:
        self.options = options
        self.failures: list[str] = []
        self.log = directory / 'stderr'
        self.programs: list[Program] = []
        brief = options.minutes < 2
        limits = LIMITS | (BRIEF if brief else {})
        self.scale = options.scale or (0.15 if brief else 1.0)
        tls = certificates(directory)
        settings = {
            'limits': limits,
            'tls': {'certfile': tls['certfile'], 'keyfile': tls['keyfile']},
            'plant': options.plant or '',
        }
        with self.log.open('w') as log:
            self.server = Program('serve', settings, log)
            self.programs.append(self.server)
            settings |= {
                'ports': self.server.answer(),
                'cafile': tls['cafile'],
                'scale': self.scale,
                'ramp': 1.0 if brief else 15.0,
                'only': options.only,
                'patience': 10.0 if brief else 60.0,
            }
            self.loads = [Program('swarm', settings, log) for _ in range(2)]
            self.callers = Program('callers', settings, log)
            self.all_loads = [*self.loads, self.callers]
            self.programs += self.all_loads
        self.peak = self.peak_threads = self.clients = 0
        self.base: dict[str, Any] = {}
        self.warm = 0  # quiet points until then
        self.begun = time.monotonic()
        self.quiet: list[dict[str, Any]] = []
        self.callers_quiet: list[dict[str, Any]] = []

    def check(self, good: bool, text: str) -> None:
        if not good and text not in self.failures:
            self.failures.append(text)
            print(f'FAILED: {text}', flush=True)

    # Phases

    def run(self) -> None:
        before = self.server.descriptors()
        warm, cycles, length = self.plan()
        for number in range(1, cycles + 1):
            self.cycle(number, length, not self.base)
            if not self.base and self.is_warm(number, warm, cycles):
                self.warm = number
                self.base = most_of(self.quiet)
                self.callers_base = most_of(self.callers_quiet)
        self.compare()
        everything = self.ask_all('leave')
        report = self.settle(0)
        self.balance(report, everything, at_the_end=True)
        left = self.server.descriptors()
        self.check(
            left == before,
            f'descriptors of the server: {left} when all have left, '
            f'{before} before',
        )
        self.finish()

    def is_warm(self, number: int, warm: int, cycles: int) -> bool:
        """Whether memory has stopped to grow, or half of the time is over."""
        if number < warm:
            return False
        if number * 2 >= cycles or self.is_brief:
            return True
        before, now = (report['memory'] for report in self.quiet[-2:])
        return bool(now <= before * (1 + RSS_GROWTH / 2))

    def plan(self) -> tuple[int, int, float]:
        """How many cycles warm up, of how many; seconds of each."""
        seconds = self.options.minutes * 60
        if self.options.minutes < 2:
            return 1, 2, seconds / 2
        cycles = max(2, round(self.options.minutes * 60 / CYCLE))
        return min(2, cycles // 2), cycles, seconds / cycles

    def cycle(self, number: int, length: float, warming: bool) -> None:
        """Load, then let all but the cohort go, then look."""
        limits = LIMITS if self.options.minutes >= 2 else LIMITS | BRIEF
        draining = float(
            limits['ping_interval'] * 1.25 + limits['ping_timeout']
        )
        begin, used = time.monotonic(), self.server.processor()
        self.peak = self.peak_threads = 0
        pids = {p.pid: p.processor() for p in self.all_loads}
        self.ask_all('load')
        minute = begin + 60
        while time.monotonic() - begin < length - draining:
            time.sleep(0.5)
            self.look()
            if time.monotonic() > minute:
                minute += 60
                self.tell_under_load()
        everything = self.ask_all('drain')
        cohort = sum(
            p['kinds']['cohort']['opened']
            for p in everything.values()
            if 'cohort' in p['kinds']
        )
        report = self.settle(cohort)
        taken = time.monotonic() - begin
        report['memory'] = self.server.memory()
        report['descriptors'] = self.server.descriptors()
        report['threads'] = self.server.status('Threads')
        report['processor'] = (self.server.processor() - used) / taken
        report['loads'] = (
            sum(p.processor() - pids[p.pid] for p in self.all_loads) / taken
        )
        self.quiet.append(report)
        callers = everything['callers']
        # The package's keeper of connections ends a while after the last.
        end = time.monotonic() + 10
        while (
            self.base
            and self.callers.descriptors() > self.callers_base['descriptors']
            and time.monotonic() < end
        ):
            time.sleep(0.1)
        callers['memory'] = self.callers.memory()
        callers['descriptors'] = self.callers.descriptors()
        self.callers_quiet.append(callers)
        self.balance(report, everything)
        busy = BUSY * self.scale * (0.5 if self.is_brief else 1)
        self.check(
            self.peak >= busy or bool(self.options.only),
            f'{self.peak} clients at a time, expected {busy:.0f}: the load '
            'did not get there',
        )
        self.check(
            self.peak_threads <= MOST_THREADS,
            f'{self.peak_threads} threads of the server, expected at most '
            f'{MOST_THREADS}',
        )
        self.tell(number, warming, everything)

    def look(self) -> None:
        """What can be seen under load."""
        clients = self.server.ask('clients')['clients']
        self.clients = clients
        self.peak = max(self.peak, clients)
        self.peak_threads = max(
            self.peak_threads, self.server.status('Threads')
        )

    def ask_all(self, word: str) -> dict[str, dict[str, Any]]:
        """Say it to all load processes; returns their reports."""
        for program in self.all_loads:
            program.begin(word)
        names = ('swarm 1', 'swarm 2', 'callers')
        return {
            name: program.answer()
            for name, program in zip(names, self.all_loads, strict=True)
        }

    def settle(self, expected: int) -> dict[str, Any]:
        """The server's report once so many clients are left, and neither
        descriptors nor threads have changed for a second."""
        end = time.monotonic() + 20
        last, since = None, time.monotonic()
        while time.monotonic() < end:
            clients = self.server.ask('clients')['clients']
            threads = self.server.status('Threads')
            now = clients, self.server.descriptors(), threads
            if now != last:
                last, since = now, time.monotonic()
            elif clients == expected and time.monotonic() - since > 1:
                break
            time.sleep(0.05)
        self.check(
            clients == expected,
            f'{clients} clients of the server 20 s after all were to leave, '
            f'expected {expected}',
        )
        return self.server.ask('report')

    # Checks

    def balance(
        self,
        report: dict[str, Any],
        everything: dict[str, dict[str, Any]],
        at_the_end: bool = False,
    ) -> None:
        """Both ends have counted the same."""
        self.sums = total(everything)
        for text in report['unexpected']:
            self.check(False, f'the server: {text}')
        self.check(
            report['skipped'] == 0,
            f'{report["skipped"]} broadcasts did not get to members',
        )
        self.check(report['rooms'] == 0, f'{report["rooms"]} rooms are left')
        raised = report['kinds'].get('raiser', {}).get('received', 0)
        lost = self.sums.get('raiser', Counter())['received']
        self.check(
            report['deliberate'] == raised - lost,
            f'{report["deliberate"]} exceptions got to onerror, of '
            f'{raised - lost}',
        )
        for program, found in everything.items():
            for name, kind in found['kinds'].items():
                for text in kind['failures']:
                    self.check(False, f'{program}, {name}: {text}')
        for name, ours in self.sums.items():
            self.balance_kind(name, ours, report['kinds'], at_the_end)
        lives = sum(counts['begun'] for counts in self.sums.values())
        excused = sum(counts['excused'] for counts in self.sums.values())
        self.check(
            excused <= lives * (0.1 if self.is_brief else MOST_LATE),
            f'{excused} of {lives} clients were cut off as their process was '
            'late: this machine is too busy for a soak',
        )
        logged = self.log.read_text()
        self.check(not logged, f'on standard error: {logged[:4000]}')

    def balance_kind(
        self,
        name: str,
        ours: Counter[str],
        theirs: dict[str, dict[str, Any]],
        at_the_end: bool,
    ) -> None:
        there = theirs.get(name) or {
            'opened': 0,
            'closed': 0,
            'received': 0,
            'sent': 0,
            'endings': {},
        }
        late = ours['late']  # lives, whose process was
        exact = KINDS[name].exact if name in KINDS else name not in INEXACT
        ends = KINDS[name].ends if name in KINDS else OUR_ENDS.get(name)
        if ends is None:
            ends = {'1000 peer'}
        staying = name == 'cohort' and not at_the_end
        expected = 0 if staying else there['opened']
        self.check(
            there['closed'] == expected,
            f'{name}: onclose was called {there["closed"]} times, '
            f'expected {expected}',
        )
        wrong = {k: n for k, n in there['endings'].items() if k not in ends}
        excused = set(wrong) <= LATE_ENDS and sum(wrong.values()) <= late
        self.check(
            not wrong or excused,
            f'{name}: ended as {wrong}, expected {sorted(ends)}',
        )
        self.check(
            staying or ours['begun'] == ours['done'] + ours['excused'],
            f'{name}: {ours["done"]} of {ours["begun"]} lives ended as '
            'they must',
        )
        if exact:
            self.check(
                there['opened'] == ours['opened']
                or (
                    ours['excused'] > 0
                    and there['opened'] - ours['opened'] <= ours['excused']
                ),
                f'{name}: {ours["opened"]} were accepted, onopen was called '
                f'{there["opened"]} times',
            )
        if staying:  # it goes on, so that the counts are of two moments
            return
        for whom, sent, got in (
            ('by the clients', ours['sent'], there['received']),
            ('by the server', there['sent'], ours['received']),
        ):
            self.check(
                got == sent if exact and not ours['excused'] else got <= sent,
                f'{name}: {sent} messages were sent {whom}, {got} arrived',
            )

    def compare(self) -> None:
        """The last quiet point with that at the end of the warm-up."""
        most = HEAP_GROWTH_BRIEF if self.is_brief else HEAP_GROWTH
        for what, base, points in (
            ('the server', self.base, self.quiet),
            ('the callers', self.callers_base, self.callers_quiet),
        ):
            last = points[-1]
            points = points[self.warm :]
            # What is resident goes up and down a little: a leak only goes up.
            least = min(report['memory'] for report in points[-2:])
            self.check(
                least <= base['memory'] * (1 + RSS_GROWTH) or self.is_brief,
                f'RssAnon of {what} grew from {base["memory"]} to {least} '
                f'bytes, by more than {RSS_GROWTH:.0%}',
            )
            heap = last['heap'] - base['heap']
            self.check(
                heap <= most,
                f'what C has allocated in {what} grew from {base["heap"]} '
                f'to {last["heap"]} bytes, by more than {most}',
            )
            self.check(
                last['descriptors'] == base['descriptors'],
                f'{last["descriptors"]} descriptors of {what}, '
                f'{base["descriptors"]} after the warm-up',
            )

    @property
    def is_brief(self) -> bool:
        return bool(self.options.minutes < 2)

    # Telling

    def tell_under_load(self) -> None:
        """A line between two quiet points."""
        seconds = time.monotonic() - self.begun
        report = self.server.ask('report')
        for text in report['unexpected']:
            self.check(False, f'the server: {text}')
        opened = sum(k['opened'] for k in report['kinds'].values())
        closed = sum(k['closed'] for k in report['kinds'].values())
        came = sum(k['received'] for k in report['kinds'].values())
        went = sum(k['sent'] for k in report['kinds'].values())
        grown = ''
        if self.base:
            more = self.server.memory() / self.base['memory'] - 1
            grown = f' ({more:+.1%} of the quiet point)'
        print(
            f'under load, after {seconds:.0f} s: {self.clients} clients; '
            f'opened {opened}, closed {closed}; {came} messages came, {went} '
            f'went; RssAnon {self.server.memory() / MIB:.2f} MiB{grown}, '
            f'descriptors {self.server.descriptors()}, threads '
            f'{self.server.status("Threads")}',
            flush=True,
        )

    def tell(
        self,
        number: int,
        warming: bool,
        everything: dict[str, dict[str, Any]],
    ) -> None:
        now = self.quiet[-1]
        base = self.quiet[-1] if warming else self.base
        name = 'warm-up' if warming else 'quiet point'
        opened = sum(k['opened'] for k in now['kinds'].values())
        closed = sum(k['closed'] for k in now['kinds'].values())
        sent = sum(k['sent'] for k in self.sums.values())
        got = sum(k['received'] for k in self.sums.values())
        came = sum(k['received'] for k in now['kinds'].values())
        went = sum(k['sent'] for k in now['kinds'].values())
        ours = self.callers_quiet[-1]
        first = ours if warming else self.callers_base
        lag = max(p.get('lag', 0) for p in everything.values())
        pace = max(p.get('pace', 0) for p in everything.values())
        seconds = time.monotonic() - self.begun
        excused = sum(counts['excused'] for counts in self.sums.values())
        lives = sum(counts['begun'] for counts in self.sums.values())
        print(
            f'{name} {number}, after {seconds:.0f} s: {self.peak} clients at '
            f'a time; opened {opened}, closed {closed}; messages to the '
            f'server {sent} sent, {came} received, from it {went} sent, {got} '
            f'received\n'
            f'  server: {memory(now, base)}; descriptors '
            f'{now["descriptors"]}, threads {now["threads"]} (at most '
            f'{self.peak_threads}), CPU {now["processor"]:.0%}\n'
            f'  callers: {memory(ours, first)}; descriptors '
            f'{ours["descriptors"]}\n'
            f'  load: CPU {now["loads"]:.0%}, at most {lag:.2f} s late, '
            f'pace {pace:.1f}; {excused} of {lives} lives cut off as it was '
            'late',
        )
        words = []
        for kind, counts in sorted(self.sums.items()):
            there = now['kinds'].get(kind)
            if there is None:  # never let in
                words.append(f'{kind} {counts["done"]}/{counts["begun"]}')
                continue
            words.append(
                f'{kind} {there["opened"]}-{there["closed"]} '
                f'{counts["sent"]}>{there["received"]} '
                f'{counts["received"]}<{there["sent"]}'
            )
        print(wrapped(words), flush=True)

    def finish(self) -> None:
        """The server stops; what it and the attackers saw of the ends."""
        last = self.server.ask('quit')
        status = self.server.process.wait(30)
        self.check(status == 0, f'the server ended with {status}')
        self.check(last['clients'] == 0, f'{last["clients"]} clients are left')
        print('\nHow they ended, told to onclose; and seen by the clients:')
        for name, counts in sorted(self.sums.items()):
            told = last['kinds'].get(name, {}).get('endings', {})
            seen = {
                key.removeprefix('end '): n
                for key, n in counts.items()
                if key.startswith('end ')
            }
            print(f'  {name}: {listed(told)}; {listed(seen)}')

    def end(self) -> None:
        for program in self.programs:
            program.end()


def most_of(points: list[dict[str, Any]]) -> dict[str, Any]:
    """The last of some quiet points, with the most memory of them all."""
    return points[-1] | {'memory': max(point['memory'] for point in points)}


def total(everything: dict[str, dict[str, Any]]) -> dict[str, Counter[str]]:
    """The counts of all load processes together, by kind."""
    sums: dict[str, Counter[str]] = {}
    for found in everything.values():
        for name, kind in found['kinds'].items():
            counts = sums.setdefault(name, Counter())
            for what in COUNTED:
                counts[what] += kind.get(what, 0)
            for end, count in kind['ends'].items():
                counts[f'end {end}'] += count
    return {name: counts for name, counts in sums.items() if counts['begun']}


def memory(now: dict[str, Any], base: dict[str, Any]) -> str:
    share = now['memory'] / base['memory'] - 1
    grown = (now['heap'] - base['heap']) / KIB
    return (
        f'RssAnon {now["memory"] / MIB:.2f} MiB ({share:+.2%}), allocated by '
        f'C {now["heap"] / MIB:.2f} MiB ({grown:+.1f} KiB), by Python '
        f'{now["blocks"]} blocks ({now["blocks"] - base["blocks"]:+})'
    )


def listed(counts: dict[str, int]) -> str:
    return (
        ', '.join(f'{n} x {key}' for key, n in sorted(counts.items())) or '-'
    )


def wrapped(words: list[str]) -> str:
    lines = ['']
    for word in words:
        if len(lines[-1]) + len(word) > 76 and lines[-1]:
            lines.append('')
        lines[-1] += f'  {word};' if not lines[-1] else f' {word};'
    return '\n'.join(lines)


def certificates(directory: Path) -> dict[str, str]:
    """Files of a certificate for localhost."""
    import trustme

    ca = trustme.CA()
    made = ca.issue_cert('localhost', '127.0.0.1')
    paths = {
        name: directory / f'{name}.pem'
        for name in ('cafile', 'certfile', 'keyfile')
    }
    ca.cert_pem.write_to_path(paths['cafile'])
    made.cert_chain_pems[0].write_to_path(paths['certfile'])
    made.private_key_pem.write_to_path(paths['keyfile'])
    return {name: str(path) for name, path in paths.items()}


def parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description='Soaks a server in clients of all kinds.'
    )
    add = parser.add_argument
    add('minutes', nargs='?', type=float, default=10.0)
    add('--plant', choices=PLANTS, help='a fault that has to be found')
    add('--only', nargs='*', help='kinds of clients, instead of all')
    add('--scale', type=float, help='1: the full number of clients')
    return parser.parse_args()


def main() -> int:
    options = parse_options()
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    soak = None
    with tempfile.TemporaryDirectory() as directory:
        try:
            soak = Soak(options, Path(directory))
            soak.run()
            failures = soak.failures
        except Failure as failure:
            text = soak.log.read_text() if soak else ''
            failures = [*(soak.failures if soak else []), str(failure), text]
        finally:
            if soak is not None:
                soak.end()
    if not failures:
        print(f'\nsoak: passed, {options.minutes:g} minutes')
        return 0
    print(f'\nsoak: {len(failures)} checks FAILED:')
    for text in failures:
        print(f'- {text}')
    return 1


if __name__ == '__main__':
    sys.exit(main())
