"""Builds the packages as for a release, and uses them as a user does.

The source archive is made of a copy of the tree in which a machine has left
its traces; the wheel is made of the archive, and auditwheel copies OpenSSL
into it. It is installed without an index, in an environment that has nothing
else, in an empty folder and without a compiler. There a server echoes, with
and without TLS, the command line answers, and mypy reads the stubs.

usage: check_packages.py [DIRECTORY]    where the packages are left
"""

import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Iterable
from pathlib import Path
from tempfile import TemporaryDirectory

ROOT = Path(__file__).resolve().parent.parent

# What a tree has beside what belongs to the project.
NOT_OURS = shutil.ignore_patterns(
    *('.git', '.venv', 'build', 'dist', 'node_modules', '__pycache__'),
    *('*.egg-info', '*.so', '*.o', '*.pyc', '.*_cache', '.hypothesis'),
)

# Of the repository, not of the project.
NOT_PACKED = ('.gitignore', '.github/')

# Traces of work on a machine, none of which may be packed.
LITTER = [
    '.venv/bin/python',
    '.git/config',
    'build/temp/frame.o',
    'csrc/protocol/frame.o',
    'tests/__pycache__/ports.cpython-311.pyc',
    'tests/interop/node_modules/ws/index.js',
    'tests/unit/.pytest_cache/README.md',
    'docs/.mypy_cache/x.json',
    'twspy/_twspy.cpython-311-x86_64-linux-gnu.so',
    'twspy/__pycache__/uri.cpython-311.pyc',
]

# What setuptools adds.
ADDED = ('PKG-INFO', 'setup.cfg', 'twspy.egg-info/')

# OpenSSL travels with a wheel, zlib is on every system that wheels are for.
BUNDLED = {'libssl', 'libcrypto'}

# What a user writes, for mypy and to be run.
USER = ROOT / 'tests/packages/user.py'


class Fault(Exception):
    pass


def run(*command: object, **options: object) -> str:
    """Its output; a failure is a fault, and told with the output."""
    words = [os.fspath(word) for word in command]  # type: ignore[call-overload]
    done = subprocess.run(  # type: ignore[call-overload]
        words,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=600,
        **options,
    )
    if done.returncode != 0:
        raise Fault(f'{" ".join(words)}:\n{done.stdout}')
    output: str = done.stdout
    return output


def compare(what: str, got: set[str], expected: set[str]) -> None:
    missing = sorted(expected - got)
    extra = sorted(got - expected)
    if missing:
        raise Fault(f'{what} lacks {len(missing)} files: {missing[:5]}')
    if extra:
        raise Fault(f'{what} has {len(extra)} too many: {extra[:5]}')


def without(names: Iterable[str], starts: tuple[str, ...]) -> set[str]:
    return {name for name in names if not name.startswith(starts)}


def files_below(root: Path) -> set[str]:
    return {
        path.relative_to(root).as_posix()
        for path in root.rglob('*')
        if path.is_file()
    }


def only(directory: Path, pattern: str) -> Path:
    found = list(directory.glob(pattern))
    if len(found) != 1:
        raise Fault(f'{directory}: {len(found)} of {pattern}, expected one')
    return found[0]


def build(kind: str, tree: Path, dist: Path) -> None:
    environment = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith('TWSPY_')
    }
    run(
        *(sys.executable, '-m', 'build', '--no-isolation', kind),
        *('--outdir', dist, tree),
        env=environment,
    )


def check_archive(archive: Path, ours: set[str]) -> None:
    with tarfile.open(archive) as tar:
        names = {
            member.name.partition('/')[2]
            for member in tar.getmembers()
            if member.isfile()
        }
    compare(archive.name, without(names, ADDED), without(ours, NOT_PACKED))


def check_wheel(wheel: Path, ours: set[str]) -> None:
    """The package and one extension module, and no sources of it."""
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    modules = {name for name in names if name.endswith('.so')}
    if len(modules) != 1:
        raise Fault(f'{wheel.name}: expected one module, has {modules}')
    about = {name for name in names if '.dist-info/' in name}
    if not any(name.endswith('/licenses/LICENSE') for name in about):
        raise Fault(f'{wheel.name}: has no LICENSE')
    package = {name for name in ours if name.startswith('twspy/')}
    compare(wheel.name, names - modules - about, package)


def repair(wheel: Path, directory: Path) -> Path:
    tools = Path(sys.executable).parent
    path = f'{tools}{os.pathsep}{os.environ["PATH"]}'
    run(
        *(sys.executable, '-m', 'auditwheel', 'repair'),
        *('--wheel-dir', directory, wheel),
        env=os.environ | {'PATH': path},
    )
    repaired = only(directory, '*.whl')
    with zipfile.ZipFile(repaired) as archive:
        names = archive.namelist()
    bundled = {
        Path(name).name.partition('-')[0]
        for name in names
        if name.startswith('twspy.libs/') and not name.endswith('/')
    }
    compare(f'{repaired.name}: twspy.libs', bundled, BUNDLED)
    if 'manylinux' not in repaired.name and 'musllinux' not in repaired.name:
        raise Fault(f'{repaired.name}: expected manylinux or musllinux')
    return repaired


def use(wheel: Path, directory: Path) -> None:
    """Installs and runs it where there is nothing else."""
    venv = directory / 'venv'
    empty = directory / 'empty'
    empty.mkdir()
    run(sys.executable, '-m', 'venv', '--without-pip', venv)
    run(
        *(sys.executable, '-m', 'pip', '--disable-pip-version-check'),
        *('--python', venv / 'bin/python', 'install', '--no-index', wheel),
    )
    run(sys.executable, '-m', 'trustme', '-q', '-d', directory)
    environment = {
        'PATH': str(venv / 'bin'),
        'HOME': str(empty),
    }
    for compiler in ('cc', 'gcc', 'clang'):
        if shutil.which(compiler, path=environment['PATH']) is not None:
            raise Fault(f'{compiler} is where there should be no compiler')
    program = shutil.copy(USER, empty)
    for command in (
        ['python', program, '--bundled', directory],
        ['twspy', '--version'],
        ['python', '-m', 'twspy', '--help'],
    ):
        name = venv / 'bin' / str(command[0])
        output = run(name, *command[1:], cwd=empty, env=environment)
        if command[-1] != '--help':
            print(output, end='')
    run(
        *(sys.executable, '-m', 'mypy', '--strict', '--config-file='),
        *('--cache-dir', directory / 'cache'),
        *('--python-executable', venv / 'bin/python', program),
        cwd=empty,
    )


def check(dist: Path, directory: Path) -> None:
    tree = directory / 'tree'
    shutil.copytree(ROOT, tree, ignore=NOT_OURS, symlinks=True)
    ours = files_below(tree)
    for name in LITTER:
        path = tree / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text('left behind\n', encoding='utf-8')
    build('--sdist', tree, directory)
    archive = only(directory, '*.tar.gz')
    check_archive(archive, ours)
    print(f'built {archive.name}')
    shutil.unpack_archive(archive, directory / 'unpacked', filter='data')
    build('--wheel', only(directory / 'unpacked', '*'), directory)
    wheel = only(directory, '*.whl')
    print(f'built of it: {wheel.name}')
    check_wheel(wheel, ours)
    repaired = repair(wheel, directory / 'repaired')
    print(f'repaired: {repaired.name}')
    run(sys.executable, '-m', 'twine', 'check', '--strict', archive, repaired)
    use(repaired, directory)
    dist.mkdir(parents=True, exist_ok=True)
    for package in (archive, repaired):
        shutil.copy(package, dist)


def main() -> int:
    dist = Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / 'dist'
    shutil.rmtree(dist, ignore_errors=True)
    try:
        with TemporaryDirectory(prefix='twspy-packages-') as directory:
            check(dist, Path(directory))
    except Fault as fault:
        print(f'check_packages: {fault}', file=sys.stderr)
        return 1
    print(f'The packages are in {os.path.relpath(dist)}')
    return 0


if __name__ == '__main__':
    sys.exit(main())
