"""The build and the tools: what they say when something is missing, and that
a failure of what they run is a failure of theirs."""

import json
import os
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


def run(
    *command: object, **environment: str
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [os.fspath(word) for word in command],  # type: ignore[call-overload]
        cwd=ROOT,
        env=os.environ | environment,
        capture_output=True,
        text=True,
    )


def script(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f'#!/bin/sh\n{text}\n', encoding='utf-8')
    path.chmod(0o755)
    return path


def build_into(tmp_path: Path, **env: str) -> subprocess.CompletedProcess[str]:
    return run(
        sys.executable,
        'setup.py',
        'build_ext',
        f'--build-temp={tmp_path / "temp"}',
        f'--build-lib={tmp_path / "lib"}',
        PKG_CONFIG='false',
        **env,
    )


@pytest.mark.parametrize(
    ('header', 'packages'),
    [
        ('openssl/ssl.h', ['libssl-dev', 'openssl-devel', 'openssl@3']),
        ('zlib.h', ['zlib1g-dev', 'zlib-devel', 'install zlib']),
    ],
)
def test_build_names_the_package_of_a_missing_header(
    tmp_path: Path, header: str, packages: list[str]
) -> None:
    compiler = script(tmp_path / 'cc', f'! grep -q {header}')
    done = build_into(tmp_path, CC=str(compiler))
    assert done.returncode != 0
    assert f'<{header}> was not found' in done.stderr
    for package in packages:
        assert package in done.stderr


def test_build_names_a_missing_compiler(tmp_path: Path) -> None:
    done = build_into(tmp_path, CC=str(tmp_path / 'none'))
    assert done.returncode != 0
    assert 'compiler' in done.stderr
    assert 'apt-get install gcc' in done.stderr


def test_build_refuses_an_unknown_sanitizer(tmp_path: Path) -> None:
    done = build_into(tmp_path, TWSPY_SANITIZE='adress')
    assert done.returncode != 0
    assert 'no sanitizer named adress' in done.stderr


def test_set_up_names_packages_it_may_not_install(tmp_path: Path) -> None:
    """An ordinary user without sudo, on a machine without OpenSSL."""
    fake = tmp_path / 'bin'
    script(fake / 'id', 'echo 1000')
    script(fake / 'sudo', 'exit 1')
    script(fake / 'apt-get', f'touch {tmp_path}/installed')
    script(fake / 'pkg-config', 'exit 1')
    script(fake / 'cc', '! grep -q openssl')
    path = f'{fake}:{os.environ["PATH"]}'
    done = run('tools/setup.sh', 'build', PATH=path, CC='cc')
    assert done.returncode == 1
    assert 'apt-get install libssl-dev\n' in done.stderr
    assert 'dnf install openssl-devel\n' in done.stderr
    assert 'brew install openssl@3\n' in done.stderr
    assert not (tmp_path / 'installed').exists()


def test_set_up_installs_only_what_is_missing(tmp_path: Path) -> None:
    """Root, on a machine that has no zlib until it is installed."""
    fake = tmp_path / 'bin'
    script(fake / 'id', 'echo 0')
    script(fake / 'apt-get', f'echo "$*" >> {tmp_path}/installed')
    script(fake / 'pkg-config', 'exit 1')
    script(
        fake / 'cc', f'! grep -q zlib || grep -qs zlib {tmp_path}/installed'
    )
    path = f'{fake}:{os.environ["PATH"]}'
    done = run('tools/setup.sh', 'build', PATH=path, CC='cc')
    assert done.returncode == 0, done.stderr
    update, install = (tmp_path / 'installed').read_text().splitlines()
    assert update.startswith('update')
    assert install.endswith('--no-install-recommends zlib1g-dev')


@pytest.mark.parametrize(
    ('programs', 'last', 'status'),
    [
        (['echo "2 passed, 0 failed"'] * 2, '4 passed, 0 failed', 0),
        (['echo "1 passed, 1 failed"; exit 1'], '1 passed, 1 failed', 1),
        (['echo "1 passed, 1 failed"'], '1 passed, 1 failed', 1),
        (['echo "1 passed, 0 failed"; exit 1'], '1 passed, 1 failed', 1),
        (['echo "1 passed, 0 failed"', 'kill -SEGV $$'], '1 passed, 1', 1),
        (['exit 0'], '0 passed, 1 failed', 1),
        (['echo "0 passed, 0 failed"'], '0 passed, 1 failed', 1),
        (['exec sleep 60'], '0 passed, 1 failed', 1),
        ([], '0 passed, 0 failed', 1),
    ],
)
def test_runner_of_c_tests_misses_no_failure(
    tmp_path: Path, programs: list[str], last: str, status: int
) -> None:
    paths = [
        script(tmp_path / f'test_{number}', text)
        for number, text in enumerate(programs)
    ]
    runner = ROOT / 'tools' / 'run_ctests.py'
    done = run(sys.executable, runner, '--timeout', '2', *paths)
    assert done.stdout.splitlines()[-1].startswith(last)
    assert done.returncode == status


def test_source_archive_holds_what_a_build_needs(tmp_path: Path) -> None:
    done = run(
        sys.executable,
        'setup.py',
        '-q',
        'egg_info',
        f'--egg-base={tmp_path}',
        'sdist',
        f'--dist-dir={tmp_path}',
    )
    assert done.returncode == 0, done.stderr
    (archive,) = tmp_path.glob('*.tar.gz')
    with tarfile.open(archive) as tar:
        names = {name.partition('/')[2] for name in tar.getnames()}
    needed = {'setup.py', 'pyproject.toml', 'LICENSE', 'README.md'}
    for top in ('csrc', 'twspy', 'tools'):
        for path in (ROOT / top).rglob('*'):
            if path.suffix in {'.c', '.h', '.py', '.pyi', '.sh', '.txt'}:
                needed.add(path.relative_to(ROOT).as_posix())
    needed.add('twspy/py.typed')
    assert needed - names == set()
    assert not [name for name in names if name.endswith(('.so', '.o'))]


def coverage_of(
    tmp_path: Path, lines_run: int, calls: int
) -> subprocess.CompletedProcess[str]:
    """Of a layer with ten lines and one function."""
    name = 'csrc/protocol/mask.c'
    summary = {
        'filename': name,
        'line_total': 10,
        'line_covered': lines_run,
        'branch_total': 4,
        'branch_covered': 3,
    }
    function = {'name': 'tws_mask', 'lineno': 7, 'execution_count': calls}
    details = {'file': name, 'functions': [function]}
    for file, entry in (('summary', summary), ('details', details)):
        text = json.dumps({'files': [entry]})
        (tmp_path / file).write_text(text, encoding='utf-8')
    return run(
        sys.executable,
        'tools/report_coverage.py',
        '--at-least=csrc/protocol=90',
        f'--called=csrc/protocol={tmp_path / "details"}',
        f'C tests={tmp_path / "summary"}',
    )


def test_coverage_that_is_enough_is_told(tmp_path: Path) -> None:
    done = coverage_of(tmp_path, 9, 1)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1].split() == [
        'csrc/protocol',
        *('90.0', '%', '75.0', '%'),
    ]


@pytest.mark.parametrize(
    ('lines_run', 'calls', 'message'),
    [
        (8, 1, 'csrc/protocol: 80.0 % of its lines ran, which should be 90 %'),
        (10, 0, 'csrc/protocol/mask.c:7: tws_mask() was never called'),
    ],
)
def test_coverage_that_is_too_low_fails(
    tmp_path: Path, lines_run: int, calls: int, message: str
) -> None:
    done = coverage_of(tmp_path, lines_run, calls)
    assert done.returncode == 1
    assert done.stdout.splitlines()[-1].startswith(message)
