"""What `make dist` checks of packages can fail."""

import importlib.util
import io
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path
from types import ModuleType

import pytest

TOOL = Path(__file__).resolve().parent.parent / 'tools/check_packages.py'
OURS = {'setup.py', 'csrc/net/tls.h', 'twspy/uri.py', 'twspy/py.typed'}
IN_WHEEL = {
    'twspy/uri.py',
    'twspy/py.typed',
    'twspy/_twspy.cpython-311-x86_64-linux-gnu.so',
    'twspy-1.dist-info/METADATA',
    'twspy-1.dist-info/licenses/LICENSE',
}


@pytest.fixture(scope='module')
def tool() -> ModuleType:
    spec = importlib.util.spec_from_file_location('check_packages', TOOL)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def archive(path: Path, names: set[str]) -> Path:
    with tarfile.open(path, 'w:gz') as tar:
        for name in sorted(names):
            tar.addfile(tarfile.TarInfo(f'twspy-1/{name}'), io.BytesIO())
    return path


def wheel(path: Path, names: set[str]) -> Path:
    with zipfile.ZipFile(path, 'w') as file:
        for name in sorted(names):
            file.writestr(name, '')
    return path


def test_good_packages_pass(tool: ModuleType, tmp_path: Path) -> None:
    added = {'PKG-INFO', 'twspy.egg-info/SOURCES.txt'}
    ours = OURS | {'.gitignore', '.github/workflows/release.yml'}
    tool.check_archive(archive(tmp_path / 'a', OURS | added), ours)
    tool.check_wheel(wheel(tmp_path / 'w', IN_WHEEL), ours)


@pytest.mark.parametrize('name', sorted(OURS))
def test_archive_may_lack_nothing(
    tool: ModuleType, tmp_path: Path, name: str
) -> None:
    path = archive(tmp_path / 'a', OURS - {name})
    with pytest.raises(tool.Fault, match=f'lacks 1 files: .*{name}'):
        tool.check_archive(path, OURS)


def test_archive_has_nothing_of_the_machine(
    tool: ModuleType, tmp_path: Path
) -> None:
    for name in tool.LITTER:
        path = archive(tmp_path / 'a', OURS | {name})
        with pytest.raises(tool.Fault, match=f'1 too many: .*{name}'):
            tool.check_archive(path, OURS)


@pytest.mark.parametrize(
    ('without', 'beside', 'message'),
    [
        ('twspy/py.typed', None, 'lacks 1 files'),
        ('twspy/_twspy.cpython-311-x86_64-linux-gnu.so', None, 'one module'),
        ('twspy-1.dist-info/licenses/LICENSE', None, 'no LICENSE'),
        (None, 'csrc/net/tls.h', '1 too many'),
        (None, 'tests/ports.py', '1 too many'),
        (None, 'twspy/_twspy.cpython-312.so', 'one module'),
    ],
)
def test_wheel_is_the_package_and_no_more(
    tool: ModuleType,
    tmp_path: Path,
    without: str | None,
    beside: str | None,
    message: str,
) -> None:
    names = (IN_WHEEL - {without}) | ({beside} if beside else set())
    path = wheel(tmp_path / 'w', {name for name in names if name})
    with pytest.raises(tool.Fault, match=message):
        tool.check_wheel(path, OURS)


def test_a_command_that_fails_is_told_with_its_output(
    tool: ModuleType,
) -> None:
    with pytest.raises(tool.Fault, match='what it said'):
        tool.run(sys.executable, '-c', "import sys; sys.exit('what it said')")


def test_help_lists_every_target_for_people() -> None:
    """Those of which others are made have names with a slash or a dash."""
    root = TOOL.parent.parent
    text = (root / 'Makefile').read_text(encoding='utf-8')
    phony = {
        name
        for line in text.splitlines()
        if line.startswith('.PHONY:')
        for name in line.split()[1:]
    }
    inner = {'FORCE', 'coverage-python', 'node-packages'}
    inner |= {name for name in phony if name.startswith('packages-')}
    # `make test` may have brought us here, whose make tells of directories.
    done = subprocess.run(
        ['make', '--no-print-directory', 'help'],
        cwd=root,
        capture_output=True,
        text=True,
        check=True,
    )
    listed = {line.split()[1] for line in done.stdout.splitlines()}
    assert listed == phony - inner
