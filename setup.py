"""Builds the extension module twspy._twspy; metadata is in pyproject.toml.

Switches in the environment (unset, empty or 0 is off):

TWSPY_DEBUG=1       no optimisation, debug information, assertions on
TWSPY_WERROR=1      the warnings of tools/warnings.txt, as errors
TWSPY_SANITIZE=...  address,undefined or thread: instrumented, assertions on
TWSPY_COVERAGE=1    count executed lines for gcov
"""

import os
import shlex
import subprocess
import sys
import sysconfig
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

ROOT = Path(__file__).resolve().parent
DIAGNOSTIC_SWITCHES = ('TWSPY_DEBUG', 'TWSPY_SANITIZE', 'TWSPY_COVERAGE')
SANITIZERS = {'address', 'leak', 'thread', 'undefined'}

# What must be there: pkg-config name, header, libraries, packages to install.
DEPENDENCIES = [
    (
        'openssl',
        'openssl/ssl.h',
        ['ssl', 'crypto'],
        ('libssl-dev', 'openssl-devel', 'openssl@3'),
    ),
    ('zlib', 'zlib.h', ['z'], ('zlib1g-dev', 'zlib-devel', 'zlib')),
]
PYTHON_PACKAGES = ('python3-dev', 'python3-devel', 'python')
COMPILER_PACKAGES = ('gcc', 'gcc', 'llvm')

# Where package managers put what the compiler does not search by itself.
PREFIXES = [
    '/usr/local',
    '/opt/homebrew/opt/{package}',
    '/usr/local/opt/{package}',
    '/opt/homebrew',
    '/opt/local',
]


def switch(name):
    return os.environ.get(name, '') not in ('', '0')


def missing(what, packages):
    debian, fedora, homebrew = packages
    sys.exit(
        f'\ntwspy: {what} was not found. Install it, then try again:\n'
        f'  Debian, Ubuntu:  apt-get install {debian}\n'
        f'  Fedora:          dnf install {fedora}\n'
        f'  Homebrew:        brew install {homebrew}\n'
    )


def compiler():
    command = os.environ.get('CC') or sysconfig.get_config_var('CC') or 'cc'
    return shlex.split(command)


def compiles(flags, source):
    """Whether the compiler takes it."""
    try:
        done = subprocess.run(
            [*compiler(), *flags, '-x', 'c', '-'],
            input=source,
            text=True,
            capture_output=True,
        )
    except FileNotFoundError:
        missing(f'the C compiler {compiler()[0]!r}', COMPILER_PACKAGES)
    return done.returncode == 0


def includes(header, flags):
    """Whether the compiler finds the header."""
    return compiles([*flags, '-E'], f'#include <{header}>\n')


def pkg_config(module):
    command = os.environ.get('PKG_CONFIG', 'pkg-config')
    try:
        done = subprocess.run(
            [*shlex.split(command), '--cflags', '--libs', module],
            text=True,
            capture_output=True,
        )
    except FileNotFoundError:
        return None
    if done.returncode != 0:
        return None
    return shlex.split(done.stdout)


def find_dependency(module, header, libraries, packages):
    """Compile and link flags of a library, or an end with a clear message."""
    flags = pkg_config(module)
    if flags is not None:
        cflags = [f for f in flags if not f.startswith(('-l', '-L', '-Wl'))]
        if includes(header, cflags):
            return cflags, [f for f in flags if f not in cflags]
    link = [f'-l{library}' for library in libraries]
    if includes(header, []):
        return [], link
    for prefix in PREFIXES:
        path = prefix.format(package=packages[2])
        cflags = [f'-I{path}/include']
        if includes(header, cflags):
            return cflags, [f'-L{path}/lib', *link]
    return missing(f'the header <{header}>', packages)


def links(flags):
    """Whether compiler and linker take the flags, without a warning."""
    with TemporaryDirectory() as directory:
        result = Path(directory, 'probe.so')
        return compiles(
            [*flags, '-Werror', '-shared', '-fPIC', '-o', str(result)],
            'int probe(void);\nint probe(void) { return 1; }\n',
        )


def plain_flags():
    """What makes it faster, as far as the tools here know it: calls across
    files are inlined, those of CPython take no detour."""
    flags = []
    for choices in (['-flto=auto'], ['-flto=thin', '-fuse-ld=lld'], ['-flto']):
        if links(choices):
            flags += choices
            break
    if links(['-fno-plt']):
        flags.append('-fno-plt')
    return flags, [*flags, '-O3']


def switch_flags():
    """Compile and link flags that the environment asks for."""
    compile_flags = []
    link_flags = []
    if not any(map(switch, DIAGNOSTIC_SWITCHES)):
        compile_flags, link_flags = plain_flags()
    if switch('TWSPY_DEBUG'):
        compile_flags += ['-O0', '-g3', '-UNDEBUG']
    if switch('TWSPY_WERROR'):
        compile_flags += (ROOT / 'tools/warnings.txt').read_text().split()
        compile_flags.append('-Werror')
        # CPython's headers are not ours to correct: as a system directory
        # they give no warnings.
        for name in ('include', 'platinclude'):
            compile_flags += ['-isystem', sysconfig.get_path(name)]
    if switch('TWSPY_SANITIZE'):
        names = os.environ['TWSPY_SANITIZE'].split(',')
        unknown = ', '.join(sorted(set(names) - SANITIZERS))
        if unknown:
            sys.exit(f'twspy: TWSPY_SANITIZE: no sanitizer named {unknown}')
        sanitize = '-fsanitize=' + ','.join(names)
        # CPython is built with -fwrapv, which would hide signed overflow.
        compile_flags += ['-O1', '-g', '-UNDEBUG', '-fno-wrapv']
        compile_flags += ['-fno-omit-frame-pointer', sanitize]
        compile_flags.append('-fno-sanitize-recover=all')
        link_flags.append(sanitize)
    if switch('TWSPY_COVERAGE'):
        compile_flags += ['--coverage', '-O0', '-UNDEBUG']
        link_flags.append('--coverage')
    return compile_flags, link_flags


class BuildExtension(build_ext):
    """Looks for what is needed only when something is built, then compiles
    the objects side by side."""

    def build_extensions(self):
        header = Path(sysconfig.get_path('include'), 'Python.h')
        if not header.exists():
            missing('the header <Python.h>', PYTHON_PACKAGES)
        compile_flags, link_flags = switch_flags()
        for dependency in DEPENDENCIES:
            cflags, libs = find_dependency(*dependency)
            compile_flags += cflags
            link_flags += libs
        for extension in self.extensions:
            extension.extra_compile_args += compile_flags
            extension.extra_link_args += link_flags
        self.compile_one = self.compiler.compile
        self.compiler.compile = self.compile_all
        super().build_extensions()

    def compile_all(self, sources, output_dir=None, **options):
        for source in sources:
            directory = Path(output_dir or '', source).parent
            directory.mkdir(parents=True, exist_ok=True)

        def compile_source(source):
            return self.compile_one([source], output_dir=output_dir, **options)

        with ThreadPoolExecutor(os.cpu_count()) as pool:
            objects = list(pool.map(compile_source, sources))
        return [name for names in objects for name in names]


def files(pattern):
    return sorted(
        path.relative_to(ROOT).as_posix() for path in ROOT.glob(pattern)
    )


setup(
    ext_modules=[
        Extension(
            'twspy._twspy',
            sources=files('csrc/**/*.c'),
            depends=files('csrc/**/*.h'),
            include_dirs=['csrc'],
            extra_compile_args=[
                '-std=c11',
                '-D_GNU_SOURCE',
                '-fvisibility=hidden',
                '-O3',
            ],
        )
    ],
    cmdclass={'build_ext': BuildExtension},
)
