"""Runs C test programs and adds up their results.

usage: run_ctests.py [--wrap COMMAND] [--timeout SECONDS] [--jobs N] PROGRAM...

A program ends with a line "N passed, N failed" and status 0 if none failed.
One that crashes, hangs, says nothing or contradicts its status counts as one
failure more. The last line here is the sum, in the same form.
"""

import argparse
import os
import re
import shlex
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

RESULT = re.compile(r'^(\d+) passed, (\d+) failed$')


def run(command: list[str], timeout: float) -> tuple[int, int, str]:
    """Tests passed, tests failed, and what else went wrong or ''."""
    try:
        done = subprocess.run(
            command, stdout=subprocess.PIPE, timeout=timeout, text=True
        )
    except subprocess.TimeoutExpired:
        return 0, 1, f'did not end within {timeout:g} s'
    except OSError as error:
        return 0, 1, f'did not start: {error}'
    lines = done.stdout.splitlines()
    result = RESULT.match(lines[-1]) if lines else None
    if result is None:
        sys.stdout.write(done.stdout)
        return 0, 1, f'ended with status {done.returncode} and no result'
    for line in lines[:-1]:
        print(line)
    passed, failed = map(int, result.groups())
    if done.returncode != 0 and failed == 0:
        return passed, 1, f'ended with status {done.returncode}'
    if done.returncode == 0 and failed != 0:
        return passed, failed, 'ended with status 0'
    if passed + failed == 0:
        return 0, 1, 'ran no test'
    return passed, failed, ''


def main() -> int:
    parser = argparse.ArgumentParser(description='Runs C test programs.')
    parser.add_argument('--wrap', default='', help='command to run them with')
    parser.add_argument('--timeout', type=float, default=300)
    parser.add_argument('--jobs', type=int, default=1)
    parser.add_argument('programs', nargs='*')
    options = parser.parse_args()
    wrap = shlex.split(options.wrap)

    def start(program: str) -> tuple[int, int, str]:
        return run([*wrap, os.path.abspath(program)], options.timeout)

    passed = failed = 0
    pool = ThreadPoolExecutor(options.jobs)
    results = pool.map(start, options.programs)
    for program, (ok, bad, problem) in zip(
        options.programs, results, strict=True
    ):
        name = os.path.basename(program)
        print(f'{name}: {ok} passed, {bad} failed', flush=True)
        if problem:
            print(f'{name}: {problem}', flush=True)
        passed += ok
        failed += bad
    if not options.programs:
        print('no C test was found')
    print(f'{passed} passed, {failed} failed', flush=True)
    return 0 if passed > 0 and failed == 0 else 1


if __name__ == '__main__':
    sys.exit(main())
