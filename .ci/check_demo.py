"""Starts `make demo` as a reader of the README does and fetches its page."""

import os
import re
import signal
import subprocess
import sys
import threading
import urllib.request

ADDRESS = re.compile(r'http://[\w.:\[\]-]+:\d+/?')
SET_UP_TIME = 600.0


def main() -> int:
    # A process group of its own, so that make and the demo end together.
    demo = subprocess.Popen(
        ['make', 'demo', 'PORT=0'],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    assert demo.stdout is not None
    limit = threading.Timer(SET_UP_TIME, os.killpg, (demo.pid, signal.SIGKILL))
    limit.start()
    try:
        for line in demo.stdout:
            print(line, end='', flush=True)
            address = ADDRESS.search(line)
            if address is not None:
                break
        else:
            print('check_demo: the demo ended and printed no address')
            return 1
        with urllib.request.urlopen(address.group(), timeout=10) as answer:
            page = answer.read().decode()
        if '<html' not in page.lower():
            print(f'check_demo: this is no page: {page[:200]!r}')
            return 1
        os.killpg(demo.pid, signal.SIGINT)
        print(demo.stdout.read(), end='')
        demo.wait()
    finally:
        limit.cancel()
        if demo.poll() is None:
            os.killpg(demo.pid, signal.SIGKILL)
            demo.wait()
    print('check_demo: the demo served its page and stopped')
    return 0


if __name__ == '__main__':
    sys.exit(main())
