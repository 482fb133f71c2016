"""What all tests share: programs that must be there, a build with sanitizers
that programs other than Python do not inherit, and running in shares."""

import os
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from certificates import Certificates

# Where `make asan` has put its build; unset for the plain one.
TEST_BUILD = os.environ.get('TWSPY_TEST_BUILD')
SANITIZED = [
    'ASAN_OPTIONS',
    'COVERAGE_FILE',
    'COVERAGE_PROCESS_START',
    'LD_PRELOAD',
    'LSAN_OPTIONS',
    'PYTHONMALLOC',
    'PYTHONPATH',
    'PYTHONSAFEPATH',
    'UBSAN_OPTIONS',
]


def pytest_configure() -> None:
    if TEST_BUILD is None:
        return
    import twspy

    # A run that took the plain build would prove nothing.
    if not Path(twspy.__file__).is_relative_to(TEST_BUILD):
        raise pytest.UsageError(f'tests ran on {twspy.__file__}')
    start = subprocess.Popen.__init__
    sanitized = {
        name: os.environ[name] for name in SANITIZED if name in os.environ
    }

    def start_fitting(self, args, *rest, **options):  # type: ignore[no-untyped-def]
        """Python runs on the build with sanitizers, whatever environment a
        test gives it; Node and Chromium would not run with its library."""
        program = args if isinstance(args, (str, os.PathLike)) else args[0]
        env = options.get('env')
        env = dict(os.environ if env is None else env)
        if Path(os.fsdecode(program)).name.startswith('python'):
            env = sanitized | env
        else:
            env.pop('LD_PRELOAD', None)
        options['env'] = env
        start(self, args, *rest, **options)

    subprocess.Popen.__init__ = start_fitting  # type: ignore[method-assign]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        '--share',
        metavar='N/M',
        default='1/1',
        help='run only the Nth, counted from 1, of each M tests',
    )


def pytest_collection_modifyitems(
    config: pytest.Config, items: list[pytest.Item]
) -> None:
    number, count = map(int, config.getoption('share').split('/'))
    if not 1 <= number <= count:
        raise pytest.UsageError('--share=N/M needs 1 <= N <= M')
    share = items[number - 1 :: count]
    if len(share) < len(items):
        chosen = set(share)
        config.hook.pytest_deselected(
            items=[item for item in items if item not in chosen]
        )
        items[:] = share


def find_program(*names: str) -> str:
    """The path of a program; a test that needs it fails without it."""
    for name in names:
        path = shutil.which(name)
        if path is not None:
            return path
    raise pytest.fail.Exception(
        f'{" or ".join(names)} is not installed: run `make test`',
        pytrace=False,
    )


@pytest.fixture(scope='session')
def node() -> str:
    return find_program('node')


@pytest.fixture(scope='session')
def chromium() -> str:
    return find_program('chromium', 'chromium-browser', 'google-chrome')


@pytest.fixture(scope='session')
def certificates(tmp_path_factory: pytest.TempPathFactory) -> 'Certificates':
    from certificates import Certificates  # slow to import

    return Certificates(tmp_path_factory.mktemp('certificates'))
