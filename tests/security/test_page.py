"""docs/security.md: its tables tell what the code does, and the tests that it
names are there."""

from __future__ import annotations

import ast
import contextlib
import inspect
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from rawpeer import BINARY, CLOSE, CONTINUATION, TEXT, RawPeer, pack, request
from servers import EchoServer

import twspy
from twspy import _twspy

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / 'docs' / 'security.md').read_text(encoding='utf-8')


def section(title: str) -> str:
    """What stands below a heading, up to the next one of any level."""
    found = re.search(
        rf'^#+ {re.escape(title)}\n(.*?)(?=^#+ |\Z)', PAGE, re.M | re.S
    )
    assert found is not None, title
    return found[1]


def rows(title: str) -> list[list[str]]:
    """The rows of the table in that section, without its head."""
    lines = [
        [cell.strip() for cell in line.strip('|').split('|')]
        for line in section(title).splitlines()
        if line.startswith('|')
    ]
    head, rule, *body = lines
    assert set(''.join(rule)) == {'-'}, rule
    assert all(len(row) == len(head) for row in body)
    return body


def quoted(cell: str) -> list[str]:
    """What stands between backticks."""
    return re.findall(r'`([^`]+)`', cell)


# --- limits ---

TAKING: dict[str, Callable[..., object]] = {
    'websocket': twspy.websocket,
    'connect': twspy.connect,
    'reconnect': twspy.reconnect,
    'DigestAuth': twspy.DigestAuth,
    'recv_stream': twspy.Connection.recv_stream,
    'listen': twspy.websocket.listen,
}


def defaults_of(name: str) -> dict[str, object]:
    """Default values by the names of parameters."""
    functions = [TAKING[name]] if name != 'Server' else []
    if name == 'Server':
        # The options are those of its half in C.
        functions = [twspy.Server, _twspy.Server]
    return {
        parameter.name: parameter.default
        for function in functions
        for parameter in inspect.signature(function).parameters.values()
        if parameter.default is not parameter.empty
    }


def options() -> list[tuple[str, str, object]]:
    """(option, who takes it, default) of the page."""
    return [
        (quoted(option)[0], taker, ast.literal_eval(quoted(default)[0]))
        for option, takers, default, *_ in rows('Options')
        for taker in quoted(takers)
    ]


@pytest.mark.parametrize(('option', 'taker', 'default'), options())
def test_defaults(option: str, taker: str, default: object) -> None:
    actual = defaults_of(taker)[option]
    assert actual == default
    assert type(actual) is type(default), 'written as Python shows it'


def test_no_limit_is_left_out() -> None:
    told = {(taker, option) for option, taker, _ in options()}
    for taker in [*TAKING, 'Server']:
        for option in defaults_of(taker):
            if re.match(
                r'max_|low_water|redirects|backlog'
                r'|.*_(timeout|interval|lifetime|time)$',
                option,
            ):
                assert (taker, option) in told, f'{option} of {taker}'


def too_large(peer: RawPeer) -> int:
    peer.send(pack(BINARY, length=(1 << 20) + 1))
    return peer.read_frame().close_code


def too_many_fragments(peer: RawPeer) -> int:
    with contextlib.suppress(OSError):
        peer.send(pack(TEXT, b'', fin=False))
        peer.send(pack(CONTINUATION, fin=False) * (1 << 17))
    return peer.read_frame().close_code


def never_a_message(peer: RawPeer) -> int:
    frame = peer.read_frame()
    assert frame.opcode == CLOSE
    return frame.close_code


def too_long(peer: RawPeer) -> int:
    peer.send(request(X='y' * 16384))
    return peer.read_head()[0]


def too_many_lines(peer: RawPeer) -> int:
    peer.send(request(**{f'X-{n}': 'y' for n in range(124)}))
    return peer.read_head()[0]


def too_many_clients(peer: RawPeer) -> int:
    with RawPeer.connect(peer.sock.getpeername()):
        peer.send(request())
        return peer.read_head()[0]


BEYOND = {
    'max_size': (too_large, True, {}),
    'max_head_size': (too_long, False, {}),
    'max_header_lines': (too_many_lines, False, {}),
    'max_clients': (too_many_clients, False, {'max_clients': 1}),
    'idle_timeout': (never_a_message, True, {'idle_timeout': 0.05}),
    'fragments': (too_many_fragments, True, {}),
}


@pytest.mark.parametrize('option', BEYOND)
def test_what_happens_beyond(option: str) -> None:
    """The number in the table is the code that a peer gets."""
    act, connected, given = BEYOND[option]
    known = {
        row[0]: row[4]
        for title in ('What is fixed', 'Options')
        for row in reversed(rows(title))
    }
    code = re.search(r'\b[145]\d\d\d?\b', known[f'`{option}`'])
    assert code is not None, known
    with EchoServer(loglevel='CRITICAL', **given) as server:
        begin = RawPeer.connect if connected else RawPeer.open
        with begin(server.address) as peer:
            assert act(peer) == int(code[0])


def value_in(path: Path, name: str) -> int:
    """A constant of a source file, from its definition."""
    text = path.read_text(encoding='utf-8')
    found = re.findall(
        rf'(?<![\w.]){name}(?::[^=\n]+)?\s*=\s*([^,;}}\n/]+)'
        rf'|\.{name}\s*=\s*([^,;}}\n/]+)',
        text,
    )
    assert len(found) == 1, f'{name} in {path}: {found}'
    expression = ''.join(found[0]).split('#')[0].strip().rstrip(')')
    assert re.fullmatch(r'[\d\s()*+<_-]+', expression), expression
    return int(eval(expression))


@pytest.mark.parametrize(
    ('name', 'file', 'value'),
    [
        (quoted(row[0])[0], quoted(row[1])[0], int(row[2].replace(',', '')))
        for row in rows('What is fixed')
    ],
)
def test_constants(name: str, file: str, value: int) -> None:
    assert value_in(ROOT / file, name) == value


def test_wrong_tables_are_found() -> None:
    """The checks can fail."""
    assert value_in(ROOT / 'csrc/net/opening.c', 'LINGER_MAX') == 1 << 18
    with pytest.raises(AssertionError):
        value_in(ROOT / 'csrc/net/opening.c', 'NOT_THERE')
    assert len(options()) > 30
    assert len(rows('What is fixed')) > 30
    assert defaults_of('Server')['max_join_time'] == 2.0
    assert 'test_wrong_tables_are_found' in names_of_tests(Path(__file__))


# --- tests and files that are named ---


def names_of_tests(path: Path) -> set[str]:
    """Names of the tests in a file of Python or C; nothing is run."""
    text = path.read_text(encoding='utf-8')
    if path.suffix == '.c':
        return set(re.findall(r'^TEST\((\w+)\)', text, re.M))
    return {
        node.name
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.FunctionDef) and node.name.startswith('test_')
    }


def cited() -> list[str]:
    """Each `path` and `path::name` of the page, once."""
    found = [
        text
        for text in quoted(re.sub(r'```.*?```', '', PAGE, flags=re.S))
        if re.fullmatch(r'[\w.]+(/[\w.]+)+(::\w+)?', text)
    ]
    return sorted(set(found))


@pytest.mark.parametrize('citation', cited())
def test_what_is_cited_is_there(citation: str) -> None:
    path, _, name = citation.partition('::')
    assert (ROOT / path).exists()
    if name:
        assert name in names_of_tests(ROOT / path)


def test_links_lead_somewhere() -> None:
    anchors = {
        re.sub(r'[^\w -]', '', title).strip().lower().replace(' ', '-')
        for title in re.findall(r'^#+ (.*)$', PAGE, re.M)
    }
    for target in re.findall(r'\]\((?!https?:)([^)]+)\)', PAGE):
        path, _, anchor = target.partition('#')
        assert (ROOT / 'docs' / path).exists(), target
        assert path or anchor in anchors, target
    for name in ('README.md', 'SECURITY.md', 'docs/architecture/README.md'):
        text = (ROOT / name).read_text(encoding='utf-8')
        links = re.findall(r'\]\(([^)#]*security\.md)\)', text)
        assert links, name
        for link in links:
            assert ((ROOT / name).parent / link).samefile(
                ROOT / 'docs' / 'security.md'
            )


ATTACKS = [
    'Lengths and memory',
    'Size, fragments, compression, time',
    'Handshake, HTTP, origins, credentials',
]


def test_every_attack_has_a_test() -> None:
    seen: set[str] = set()
    for title in ATTACKS:
        for identifiers, project, cause, here, tests in rows(title):
            assert all((project, cause, here)), identifiers
            assert any('::' in test for test in quoted(tests)), identifiers
            for identifier in identifiers.split(', '):
                assert identifier not in seen
                seen.add(identifier)
    assert len(seen) >= 70
    assert {'CVE-2018-1000518', 'CVE-2021-33880', 'CVE-2025-10148'} <= seen


def test_every_file_of_this_folder_is_cited() -> None:
    """A test of an attack that the page does not know helps nobody."""
    for path in Path(__file__).parent.glob('test_*.py'):
        name = path.relative_to(ROOT).as_posix()
        assert any(each.startswith(name) for each in cited()), name


# --- what is said of the package ---


def test_nothing_is_unpickled() -> None:
    """Nor run, nor looked up by a name that a peer could give."""
    for path in (ROOT / 'twspy').glob('*.py'):
        for node in ast.walk(ast.parse(path.read_text(encoding='utf-8'))):
            names: list[str] = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                names = [node.module or '']
            elif isinstance(node, ast.Name):
                names = [node.id] if node.id in ('eval', 'exec') else []
            for name in names:
                root = name.split('.')[0]
                assert root not in (
                    'pickle',
                    'marshal',
                    'shelve',
                    'eval',
                    'exec',
                ), path
    for path in (ROOT / 'csrc').glob('*/*.c'):
        text = path.read_text(encoding='utf-8')
        assert not re.search(r'PyMarshal|PyRun_|"pickle"|"marshal"', text)
