"""The checks of tools/ hold for this tree, and each of them can fail."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
CHECKS = ['check_layers', 'check_capi', 'check_mirror']


def run(check: str, root: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, ROOT / 'tools' / f'{check}.py', root],
        # The checks import each other from their own directory.
        env=os.environ | {'PYTHONSAFEPATH': ''},
        capture_output=True,
        text=True,
    )


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A small tree in which every check passes."""
    plant(
        tmp_path,
        {
            'csrc/protocol/frame.h': '#include <stdint.h>\n',
            'csrc/protocol/frame.c': '#include "protocol/frame.h"\n',
            'csrc/net/socket.h': '#include <sys/socket.h>\n',
            'csrc/loop/poller.h': '#include <sys/epoll.h>\n',
            'csrc/engine/server.c': '#include "engine/server.h"\n'
            '#include "net/socket.h"\n'
            '#include "loop/poller.h"\n',
            'csrc/python/module.c': '#include <Python.h>\n'
            '#include "engine/server.h"\n'
            'static PyMethodDef methods[] = {{0}};\n',
            'csrc/engine/server.h': '/* PyGILState_Ensure(); */\n',
            'tests/c/test_frame.c': '',
            'tests/c/test_server.c': '',
            'twspy/__init__.py': 'from . import errors\n'
            'from .uri import parse\n',
            'twspy/errors.py': 'import enum\n',
            'twspy/uri.py': 'from .errors import WebSocketError\n',
            'twspy/demo.py': 'import twspy\n',
        },
    )
    return tmp_path


def plant(root: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding='utf-8')


@pytest.mark.parametrize('check', CHECKS)
def test_this_tree_is_clean(check: str) -> None:
    done = run(check, ROOT)
    assert done.stdout == ''
    assert done.stderr == ''
    assert done.returncode == 0


@pytest.mark.parametrize('check', CHECKS)
def test_planted_tree_is_clean(check: str, tree: Path) -> None:
    done = run(check, tree)
    assert done.stdout + done.stderr == ''
    assert done.returncode == 0


def expect(check: str, tree: Path, name: str, line: int, text: str) -> None:
    """The check fails with one finding only: this one."""
    done = run(check, tree)
    assert done.stderr == ''
    findings = done.stdout.splitlines()[:-1]
    assert len(findings) == 1, done.stdout
    assert findings[0].startswith(f'{name}:{line}: ')
    assert text in findings[0]
    assert done.returncode == 1


@pytest.mark.parametrize(
    ('name', 'line', 'text'),
    [
        ('protocol/a.h', '#include "net/socket.h"', 'may not see net'),
        ('net/a.h', '#include "loop/poller.h"', 'may not see loop'),
        ('loop/a.h', '#include "net/socket.h"', 'may not see net'),
        ('net/a.h', '# include "engine/server.h"', 'may not see engine'),
        ('engine/a.h', '#include <Python.h>', 'not in engine'),
        ('protocol/a.h', '#include <openssl/ssl.h>', 'not in protocol'),
        ('protocol/a.h', '#include <sys/socket.h>', 'not in protocol'),
        ('protocol/a.h', '#include <time.h>', 'not in protocol'),
        ('net/a.h', '#include <sys/epoll.h>', 'not in net'),
        ('net/a.h', '#include "socket.h"', 'layer/file.h'),
        ('net/a.h', '#include <protocol/frame.h>', 'in quotes'),
        ('net/a.h', '#include "net/socket.c"', 'only headers'),
        ('net/a.h', '#include "net/../loop/poller.h"', 'no such header'),
        ('net/a.h', '#include HEADER', 'name of a file'),
    ],
)
def test_include_that_breaks_the_layers_is_found(
    tree: Path, name: str, line: str, text: str
) -> None:
    plant(tree, {f'csrc/{name}': f'/* c\n */\n{line} /* why */\n'})
    expect('check_layers', tree, f'csrc/{name}', 3, text)


def test_include_in_a_comment_is_no_include(tree: Path) -> None:
    plant(tree, {'csrc/net/a.h': '/*\n#include <Python.h>\n*/\n'})
    assert run('check_layers', tree).returncode == 0


def test_own_header_that_is_not_first_is_found(tree: Path) -> None:
    text = '#include <stdint.h>\n#include "protocol/frame.h"\n'
    plant(tree, {'csrc/protocol/frame.c': text})
    name = 'csrc/protocol/frame.c'
    expect('check_layers', tree, name, 1, 'first include')


def test_source_outside_a_layer_is_found(tree: Path) -> None:
    plant(tree, {'csrc/stray.c': ''})
    expect('check_layers', tree, 'csrc/stray.c', 1, 'lies in a layer')


@pytest.mark.parametrize(
    'text',
    [
        'import twspy.uri\n',
        'from .uri import parse\n',
        'from . import uri\n',
        'def f():\n    from twspy import uri\n',
    ],
)
def test_errors_that_import_ours_are_found(tree: Path, text: str) -> None:
    plant(tree, {'twspy/errors.py': text, 'twspy/uri.py': ''})
    done = run('check_layers', tree)
    assert 'twspy.errors imports nothing of ours' in done.stdout
    assert done.returncode == 1


def test_import_for_type_checkers_is_no_import(tree: Path) -> None:
    text = 'from typing import TYPE_CHECKING\n'
    text += 'if TYPE_CHECKING:\n    from .uri import parse\n'
    plant(tree, {'twspy/errors.py': text})
    assert run('check_layers', tree).returncode == 0


def test_import_in_a_circle_is_found(tree: Path) -> None:
    plant(tree, {'twspy/uri.py': 'import twspy\n'})
    done = run('check_layers', tree)
    assert 'twspy.uri and twspy import each other' in done.stdout
    assert done.returncode == 1


@pytest.mark.parametrize(
    ('name', 'text', 'message'),
    [
        ('python/a.c', 'PyGILState_Ensure();', 'main interpreter'),
        ('python/a.c', 'PyModule_AddObject(m, n, o);', 'steals only'),
        ('python/a.c', 'PyErr_NewException(n, b, d);', 'twspy/errors.py'),
        ('python/a.c', 'static PyObject *cache;', 'module state'),
        ('python/a.c', 'static PyObject *a, *b;', 'module state'),
        ('python/a.c', 'static PyTypeObject type = {', 'module state'),
        ('net/a.c', 'strcpy(a, b);', 'size of its target'),
        ('net/a.c', 'x = sprintf (a, b);', 'size of its target'),
        ('net/a.c', 'p = alloca(n);', 'stack'),
        ('net/a.c', 'n = rand();', 'cryptographic'),
        ('net/a.c', 't = localtime(&n);', 'between threads'),
        ('net/a.c', 'n = atoi(p);', 'overflow'),
        ('net/a.c', 'abort();', 'never ends the process'),
        ('net/a.c', 'printf("x");', 'never prints'),
        ('net/a.c', 'static int counter;', 'mutable state'),
        ('net/a.c', '    static char name[8] = "x";', 'mutable state'),
    ],
)
def test_banned_call_is_found(
    tree: Path, name: str, text: str, message: str
) -> None:
    plant(tree, {f'csrc/{name}': f'\n\n{text}\n'})
    done = run('check_capi', tree)
    assert f'csrc/{name}:3: ' in done.stdout
    assert message in done.stdout
    assert done.returncode == 1


@pytest.mark.parametrize(
    'text',
    [
        '/* strcpy(a, b); */',
        '// strcpy(a, b);',
        'const char *s = "/* strcpy(a, b); ";',
        'table->system(name);',
        'static const int table[] = {1};',
        'static int\nadd(int a, int b)\n{\n}',
        'static PyObject *\nframe_new(PyTypeObject *type)\n{\n}',
        'static PyObject *frame_new(PyTypeObject *type);',
        'static PyType_Slot slots[] = {{0}};',
        'static char *keywords[] = {"a", NULL};',
        '__attribute__((format(printf, 1, 2)))',
    ],
)
def test_harmless_text_is_left_alone(tree: Path, text: str) -> None:
    plant(tree, {'csrc/python/a.c': f'{text}\n'})
    done = run('check_capi', tree)
    assert done.stdout == ''
    assert done.returncode == 0


def test_traverse_that_forgets_its_type_is_found(tree: Path) -> None:
    body = 'static int\nx_traverse(PyObject *self)\n{{\n    {}\n}}\n'
    slots = 'static PyType_Slot slots[] = {{Py_tp_traverse, x_traverse}};\n'
    name = 'csrc/python/a.c'
    plant(tree, {name: body.format('Py_VISIT(Py_TYPE(self));') + slots})
    assert run('check_capi', tree).returncode == 0
    plant(tree, {name: body.format('return 0;') + slots})
    expect('check_capi', tree, name, 6, 'x_traverse')


def test_file_without_its_test_is_found(tree: Path) -> None:
    (tree / 'tests/c/test_frame.c').unlink()
    name = 'csrc/protocol/frame.c'
    expect('check_mirror', tree, name, 1, 'test_frame.c is missing')


def test_two_files_of_one_name_are_found(tree: Path) -> None:
    plant(tree, {'csrc/net/frame.c': ''})
    name = 'csrc/net/frame.c'
    expect('check_mirror', tree, name, 1, 'another layer')


def test_exceptions_that_are_not_needed_are_found(
    tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(ROOT / 'tools')
    import check_mirror

    plant(tree, {'csrc/protocol/mask.c': ''})
    covered = {'protocol/mask.c': ('test_frame.c', 'why')}
    assert list(check_mirror.check(tree, covered)) == []
    for exceptions, message in [
        ({'protocol/mask.c': ('test_none.c', 'why')}, 'test_none.c is miss'),
        (
            covered | {'protocol/frame.c': ('test_server.c', 'why')},
            'remove the exception',
        ),
        (covered | {'net/gone.c': ('test_frame.c', 'why')}, 'not there'),
    ]:
        found = list(check_mirror.check(tree, exceptions))
        assert len(found) == 1
        assert message in found[0].message
