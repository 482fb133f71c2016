"""Builds the load generator, and installs what twspy is compared with.

Everything goes into build/. A part that cannot be installed is remembered
with the reason, and the rest goes on.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path

from .system import BENCH, BUILD, PEERS, ROOT, Failure, compiler

INSTALLED = ROOT / 'build' / 'peers'
VENV = INSTALLED / 'venv'
LOG = INSTALLED / 'log.txt'
CERTIFICATE = (BUILD / 'certificate.pem', BUILD / 'key.pem')
STEP_TIME = 600.0  # seconds an installation may take

LOAD = BUILD / 'load'
LOAD_SOURCES = sorted((BENCH / 'load').glob('*.c'))


# Helpers ---------------------------------------------------------------------


def run(command: list[object], folder: Path | None = None) -> None:
    """A step; what it says goes to the log."""
    words = [str(word) for word in command]
    INSTALLED.mkdir(parents=True, exist_ok=True)
    with LOG.open('a') as log:
        print('+', *words, file=log, flush=True)
        try:
            done = subprocess.run(
                words,
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                timeout=STEP_TIME,
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise Failure(f'{words[0]}: {error}') from error
    if done.returncode != 0:
        raise Failure(f'{" ".join(words[:3])} failed, see {LOG.name}')


def need(*tools: str) -> None:
    for tool in tools:
        if shutil.which(tool) is None:
            raise Failure(f'{tool} is not installed')


def is_newer(target: Path, *inputs: Path) -> bool:
    """Whether it is there and newer than what it was made from."""
    return target.exists() and all(
        path.stat().st_mtime <= target.stat().st_mtime for path in inputs
    )


def copied(name: str) -> Path:
    """A copy of a folder of peers/, where tools may write beside it."""
    folder = INSTALLED / name
    shutil.copytree(PEERS / name, folder, dirs_exist_ok=True)
    return folder


# Our own side ----------------------------------------------------------------


def compile_load() -> None:
    inputs = [*LOAD_SOURCES, *(BENCH / 'load').glob('*.h')]
    if is_newer(LOAD, *inputs):
        return
    LOAD.parent.mkdir(parents=True, exist_ok=True)
    subprocess.run(
        [
            *(*compiler(), '-std=c11', '-D_GNU_SOURCE', '-O2', '-Wall'),
            *('-Wextra', '-Werror', '-o', str(LOAD)),
            *(*map(str, LOAD_SOURCES), '-lssl', '-lcrypto', '-lz'),
        ],
        check=True,
    )


def make_certificate() -> None:
    if all(path.exists() for path in CERTIFICATE):
        return
    need('openssl')
    BUILD.mkdir(parents=True, exist_ok=True)
    run(
        [
            *('openssl', 'req', '-x509', '-newkey', 'ec', '-nodes'),
            *('-pkeyopt', 'ec_paramgen_curve:prime256v1', '-days', '3650'),
            *('-subj', '/CN=localhost', '-addext'),
            'subjectAltName=DNS:localhost,IP:127.0.0.1',
            *('-out', CERTIFICATE[0], '-keyout', CERTIFICATE[1]),
        ]
    )


# Others ----------------------------------------------------------------------


def install_c() -> str:
    source, target = PEERS / 'epoll_echo.c', INSTALLED / 'epoll_echo'
    if not is_newer(target, source):
        run(
            [
                *(*compiler(), '-std=c11', '-D_GNU_SOURCE', '-O2', '-Wall'),
                *('-o', target, source, '-lcrypto'),
            ]
        )
    return 'one epoll loop in C, -O2'


def install_venv() -> str:
    """The packages of the list, each that can be had."""
    wanted = (PEERS / 'requirements.txt').read_text().split()
    stamp = VENV / 'installed'
    state = f'{sys.version}\n{sys.base_prefix}\n{wanted}'
    if not (stamp.exists() and stamp.read_text() == state):
        run([sys.executable, '-m', 'venv', '--clear', VENV])
        pip = [VENV / 'bin' / 'python', '-m', 'pip', 'install', '-q']
        pip.append('--disable-pip-version-check')
        try:
            run([*pip, *wanted])
        except Failure:
            for package in wanted:
                try:
                    run([*pip, package])
                except Failure:
                    continue  # package() tells
        stamp.write_text(state)
    return ''


def package(*names: str) -> Callable[[], str]:
    """The versions of packages of the virtual environment."""
    code = (
        'import sys; from importlib.metadata import version; '
        'print(*(f"{name} {version(name)}" for name in sys.argv[1:]), '
        'sep=", ")'
    )

    def install() -> str:
        install_venv()
        done = subprocess.run(
            [VENV / 'bin' / 'python', '-c', code, *names],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        if done.returncode != 0:
            raise Failure(f'pip cannot install {" or ".join(names)} here')
        return done.stdout.strip()

    return install


def install_uws() -> str:
    """uWebSockets: the crate of a binding holds its sources."""
    need('cargo', 'gcc', 'g++')
    folder = copied('uws')
    vendored = folder / 'vendor' / 'libuwebsockets-sys'
    source, target = PEERS / 'uws_echo.cpp', INSTALLED / 'uws_echo'
    if not vendored.exists():
        run(['cargo', 'vendor', '-q', 'vendor'], folder)
    version = tomllib.loads((vendored / 'Cargo.toml').read_text())
    if not is_newer(target, source):
        sockets = vendored / 'uWebSockets' / 'uSockets' / 'src'
        include = [f'-I{sockets}', f'-I{vendored / "uWebSockets" / "src"}']
        flags = ['-O3', '-march=native', '-flto', '-DLIBUS_USE_OPENSSL']
        objects = folder / 'objects'
        objects.mkdir(exist_ok=True)
        sources = [
            *sockets.glob('*.c'),
            *(sockets / 'crypto').glob('*.c'),
            *(sockets / 'eventing').glob('*.c'),
        ]
        run(['gcc', '-c', *flags, *include, *sources], objects)
        run(
            [
                *('g++', '-std=c++20', *flags, *include, '-o', target),
                *(source, sockets / 'crypto' / 'sni_tree.cpp'),
                *(*objects.glob('*.o'), '-lssl', '-lcrypto', '-lz'),
            ]
        )
    return (
        'uWebSockets as in libuwebsockets-sys '
        f'{version["package"]["version"]}, g++ -O3 -march=native -flto'
    )


def install_node() -> str:
    need('node', 'npm')
    folder = copied('node')
    module = folder / 'node_modules' / 'ws' / 'package.json'
    if not is_newer(module, PEERS / 'node' / 'package.json'):
        run(
            [
                *('npm', 'install', '--no-package-lock', '--no-audit'),
                *('--no-fund', '--ignore-scripts', '--loglevel=error'),
            ],
            folder,
        )
        module.touch()
    version = json.loads(module.read_text())['version']
    node = subprocess.run(
        ['node', '--version'], stdout=subprocess.PIPE, text=True, check=True
    ).stdout.strip()
    return f'ws {version}, Node {node}'


def install_go() -> str:
    need('go')
    folder, target = PEERS / 'go', INSTALLED / 'go_echo'
    if not is_newer(target, *folder.iterdir()):
        run(['go', 'build', '-o', target, '.'], folder)
    words = (folder / 'go.mod').read_text().split()
    versions = [
        f'{name.rpartition("/")[2]} {words[words.index(name) + 1]}'
        for name in (
            'github.com/gorilla/websocket',
            'github.com/lesismal/nbio',
        )
    ]
    go = subprocess.run(
        ['go', 'env', 'GOVERSION'],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    ).stdout.strip()
    return f'gorilla/{versions[0]}, {versions[1]}, {go}'


def install_rust() -> str:
    need('cargo')
    folder = copied('rust')
    target = folder / 'target' / 'release' / 'echo'
    if not is_newer(target, PEERS / 'rust' / 'src' / 'main.rs'):
        run(['cargo', 'build', '--release', '-q'], folder)
    lock = tomllib.loads((folder / 'Cargo.lock').read_text())
    version = next(
        entry['version']
        for entry in lock['package']
        if entry['name'] == 'tokio-tungstenite'
    )
    return f'tokio-tungstenite {version}'


def install_beast() -> str:
    """Boost's headers: those of the system, or Debian's package, unpacked."""
    need('g++')
    source, target = BENCH / 'clients' / 'beast.cpp', INSTALLED / 'beast'
    folder = INSTALLED / 'boost'
    headers = Path('/usr/include')
    if not (headers / 'boost' / 'beast.hpp').exists():
        headers = folder / 'usr' / 'include'
        if not (headers / 'boost' / 'beast.hpp').exists():
            fetch_boost(folder)
    if not is_newer(target, source):
        run(
            [
                *('g++', '-std=c++17', '-O2', '-pthread', '-isystem'),
                *(headers, '-o', target, source, '-lssl', '-lcrypto'),
            ]
        )
    for line in (headers / 'boost' / 'version.hpp').read_text().splitlines():
        if line.startswith('#define BOOST_LIB_VERSION'):
            return f'Boost {line.split()[-1].strip(chr(34))}, g++ -O2'
    return 'Boost'


def fetch_boost(folder: Path) -> None:
    need('apt-get', 'apt-cache', 'dpkg-deb')
    depends = subprocess.run(
        ['apt-cache', 'depends', 'libboost-dev'],
        stdout=subprocess.PIPE,
        text=True,
    ).stdout
    names = [
        line.split()[-1]
        for line in depends.splitlines()
        if line.strip().startswith('Depends: libboost')
    ]
    if not names:
        raise Failure('Boost is not installed (libboost-dev)')
    folder.mkdir(parents=True, exist_ok=True)
    run(['apt-get', 'download', names[0]], folder)
    for archive in folder.glob('*.deb'):
        run(['dpkg-deb', '-x', archive, folder])


def environment() -> dict[str, str]:
    """What the programs of others need to find their modules."""
    return {
        **os.environ,
        'NODE_PATH': str(INSTALLED / 'node' / 'node_modules'),
        'PYTHONDONTWRITEBYTECODE': '1',
    }
