"""Makes single calls of twspy's extension module fail, by interpose.c."""

from __future__ import annotations

import ctypes
import importlib.machinery
import importlib.util
import subprocess
import sysconfig
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

SOURCE = Path(__file__).with_name('interpose.c')

# Groups of functions, see interpose.c.
MEMORY, PYTHON, CRYPTO, SYSTEM, CLOCKS = 1, 2, 4, 8, 16

# Storms.
ONE_BYTE, RANDOM, EINTR, EAGAIN = 1, 2, 3, 4

# A code in place of an errno: the call does less than it was asked for.
SHORT = -1


def build(directory: Path) -> Path:
    """Compile it."""
    library = directory / 'interpose.so'
    subprocess.run(
        [
            'cc',
            '-std=gnu11',
            '-O1',
            '-g',
            '-fPIC',
            '-shared',
            '-Wall',
            '-Wextra',
            '-Werror',
            f'-I{sysconfig.get_path("include")}',
            '-o',
            str(library),
            str(SOURCE),
        ],
        check=True,
    )
    return library


def module_path() -> str:
    """Where the extension module lies that would be imported."""
    spec = importlib.util.find_spec('twspy')
    assert spec is not None and spec.submodule_search_locations is not None
    found = importlib.machinery.PathFinder.find_spec(
        'twspy._twspy', list(spec.submodule_search_locations)
    )
    assert found is not None and found.origin is not None
    return found.origin


@dataclass(frozen=True)
class Place:
    """Where the module calls a function.

    times: how often a recorded scenario passed here
    """

    name: str
    function: int
    offset: int
    times: int

    def __str__(self) -> str:
        return f'{self.name} at {self.offset:#x}'


class Injector:
    """The one of this process.

    library: what build() has made
    """

    def __init__(self, library: str) -> None:
        self._c = ctypes.CDLL(library)
        self._c.faults_place.restype = ctypes.c_char_p
        self._c.faults_live.restype = ctypes.c_long
        self._c.faults_arm.argtypes = [
            ctypes.c_uint32,
            ctypes.c_size_t,
            ctypes.c_uint32,
            ctypes.c_uint32,
            ctypes.c_int,
        ]
        self._c.faults_storm.argtypes = [ctypes.c_int, ctypes.c_uint64]
        self._c.faults_step_clock.argtypes = [ctypes.c_int64]
        self.module = module_path()
        # Loaded, but nothing of it run: its import can fail, too.
        self._loaded = ctypes.PyDLL(self.module)
        if self._c.faults_attach(self.module.encode()) < 100:
            raise RuntimeError(f'{self.module} can not be interposed')

    def attach_types(self, module: object) -> list[type]:
        """Have objects of the module's types be made by way of this, too.
        Returns them."""
        found = []
        attach = ctypes.pythonapi
        attach = self._c.faults_attach_type
        attach.argtypes = [ctypes.py_object]
        for value in vars(module).values():
            if isinstance(value, type) and value not in found:
                attach(value)
                found.append(value)
        return found

    @contextmanager
    def recording(self, groups: int) -> Iterator[list[Place]]:
        """The places of these groups that are passed through in the block
        are in the list when it ends."""
        places: list[Place] = []
        self._c.faults_record(groups)
        try:
            yield places
        finally:
            function = ctypes.c_uint32()
            at = ctypes.c_size_t()
            times = ctypes.c_uint32()
            for i in range(self._c.faults_recorded()):
                name = self._c.faults_place(
                    i,
                    ctypes.byref(function),
                    ctypes.byref(at),
                    ctypes.byref(times),
                )
                places.append(
                    Place(name.decode(), function.value, at.value, times.value)
                )
            places.sort(key=lambda place: (place.offset, place.name))

    def arm(
        self, place: Place, skip: int = 0, times: int = 1, code: int = 0
    ) -> None:
        """Have `times` calls there fail, once `skip` have passed."""
        self._c.faults_arm(place.function, place.offset, skip, times, code)

    def arm_function(
        self, name: str, skip: int = 0, times: int = 1, code: int = 0
    ) -> None:
        """The same, wherever the module calls the function."""
        function = self._c.faults_function(name.encode())
        assert function >= 0, name
        self._c.faults_arm(function, 0, skip, times, code)

    def disarm(self) -> int:
        """How many calls have failed."""
        fired: int = self._c.faults_disarm()
        return fired

    @contextmanager
    def storm(self, kind: int, seed: int = 1) -> Iterator[None]:
        """Have calls of the system be short or interrupted in the block."""
        self._c.faults_storm(kind, seed)
        try:
            yield
        finally:
            self._c.faults_storm(0, 0)

    def live(self) -> int:
        """Blocks of memory and locks that the module has not freed."""
        count: int = self._c.faults_live()
        return count

    def step_clock(self, seconds: int) -> None:
        """Have clocks other than the monotonic one be off."""
        self._c.faults_step_clock(seconds)

    def clocks_read(self) -> int:
        """How often such a clock was read."""
        count: int = self._c.faults_clocks_read()
        return count
