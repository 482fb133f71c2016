"""A server in a process of its own, and what the kernel tells of it."""

from __future__ import annotations

import os
import select
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Self

from .installing import environment
from .peers import Peer
from .system import Failure, cores, on_core

START_TIME = 20.0  # seconds a server has to print its port and to listen
STOP_TIME = 3.0  # seconds it has to end
TOLD = 300  # characters of its standard error that are told


def children(pid: int) -> list[int]:
    """A process and those that it has started, and so on."""
    found = [pid]
    for task in Path(f'/proc/{pid}/task').glob('*/children'):
        for word in task.read_text().split():
            found += children(int(word))
    return found


def resident(pids: list[int]) -> int:
    """Bytes of memory that processes have, without those of files."""
    total = 0
    for pid in pids:
        for line in Path(f'/proc/{pid}/status').read_text().splitlines():
            if line.startswith('RssAnon:'):
                total += int(line.split()[1]) * 1024
    return total


class Server:
    """A server that runs, from entering to leaving."""

    def __init__(self, peer: Peer, kind: str, *flags: str) -> None:
        self.peer = peer
        self.command = peer.words(kind, *flags)
        self.port = 0

    def __enter__(self) -> Self:
        # Not a pipe: nobody would read it.
        self.errors = tempfile.TemporaryFile()
        try:
            with on_core(cores()[0]):
                self.process = subprocess.Popen(
                    self.command,
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.PIPE,
                    stderr=self.errors,
                    env=environment(),
                )
        except OSError as error:
            self.errors.close()
            raise Failure(f'{self.command[0]}: {error}') from error
        try:
            self.port = self.read_port()
            self.wait_until_it_listens()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *exception: object) -> None:
        pids = children(self.process.pid)
        self.process.terminate()
        try:
            self.process.wait(STOP_TIME)
        except subprocess.TimeoutExpired:
            for pid in pids:
                try:
                    os.kill(pid, 9)
                except ProcessLookupError:
                    pass
            self.process.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()
        self.errors.close()

    @property
    def pids(self) -> list[int]:
        return children(self.process.pid)

    def alive(self) -> bool:
        return self.process.poll() is None

    def read_port(self) -> int:
        assert self.process.stdout is not None
        readable, _, _ = select.select(
            [self.process.stdout], [], [], START_TIME
        )
        line = self.process.stdout.readline() if readable else b''
        if not line.strip().isdigit():
            self.errors.seek(0)
            told = self.errors.read().decode(errors='replace').strip()
            raise Failure(
                f'printed {line!r}, expected its port within '
                f'{START_TIME:g} s: {told[-TOLD:]}'
            )
        return int(line)

    def wait_until_it_listens(self) -> None:
        end = time.monotonic() + START_TIME
        while True:
            try:
                socket.create_connection(('127.0.0.1', self.port), 5).close()
                return
            except OSError as error:
                if time.monotonic() > end or not self.alive():
                    raise Failure(f'does not listen: {error}') from error
                time.sleep(0.02)
