"""docs/errors.md has every message of the source that a section is about, and
none that the source has not."""

from __future__ import annotations

import ast
import functools
import re
from typing import NamedTuple

import pytest
from programs import ROOT

import twspy
from twspy.errors import _MEANINGS

PAGE = (ROOT / 'docs' / 'errors.md').read_text(encoding='utf-8')
GAP = '\0'  # stands for what a format puts in

STRING = r'"(?:[^"\\]|\\.)*"'
CODES = dict(
    re.findall(
        r'(TWS_CLOSE_\w+) = (\d+)',
        (ROOT / 'csrc/protocol/close_code.h').read_text(encoding='utf-8'),
    )
)


class Told(NamedTuple):
    """A message of the source; number is a close code or a status."""

    text: str
    number: str
    where: str


def section(title: str) -> str:
    """What stands below a heading, with the headings below that."""
    found = re.search(
        rf'^(#+) {re.escape(title)}\n(.*?)(?=^#{{1,2}} |\Z)', PAGE, re.M | re.S
    )
    assert found is not None, title
    return found[2]


def listed(title: str) -> list[tuple[str, list[str]]]:
    """(message, cells of its row): what stands in backticks in the column
    named so of the tables of a section."""
    found = []
    column = None
    for line in section(title).splitlines():
        cells = [cell.strip() for cell in line.strip('|').split('|')]
        if not line.startswith('|'):
            column = None
        elif column is None:
            column = cells.index('message') if 'message' in cells else -1
        elif column >= 0:
            for text in re.findall(r'`([^`]+)`', cells[column]):
                found.append((text, cells))
    return found


def pattern_of(text: str) -> re.Pattern[str]:
    words = [re.escape(word) for word in text.split('...')]
    # A pattern without words would be true of anything.
    assert len(re.findall(r'\w{3,}', text)) >= 1, text
    return re.compile('.+'.join(words), re.S)


@functools.cache
def c_files(folders: str = '*') -> list[tuple[str, str]]:
    """The source with strings as the compiler sees them."""
    found = []
    for path in sorted((ROOT / 'csrc').glob(f'{folders}/*.c')):
        text = path.read_text(encoding='utf-8')
        text = re.sub(r'" PRI\w+\s*"', 'u', text)
        text = re.sub(r'" PRI\w+', 'u"', text)
        found.append((path.name, re.sub(r'"\s*\n\s*"', '', text)))
    return found


def plain(literal: str) -> str:
    text = literal[1:-1].replace('\\"', '"')
    text = text.replace('%%', '%')
    return re.sub(r'%(?:\.\*|\.\d+)?l*z?[a-zA-Z]', GAP, text)


def of_core(function: str) -> list[Told]:
    """The messages that are given to a function of status.h."""
    found = []
    for name, text in c_files():
        for call in re.finditer(
            rf'{function}\(([^;"]*)((?:{STRING}|[^";])*);', text, re.S
        ):
            words = re.split(r'[\s,&]+', call[1].strip(' ,\n'))
            number = CODES.get(words[-1], words[-1])
            found += [
                Told(plain(literal), number, name)
                for literal in re.findall(STRING, call[2])
                # Others are put into the message, or one of two.
                if len(literal) > 14
            ]
    assert found
    return found


def of_bindings(kind: str) -> list[Told]:
    """What csrc/python raises of a kind, and twspy, too."""
    found = [
        Told(plain(literal), '', name)
        for name, text in c_files('python')
        for literal in re.findall(
            rf'PyErr_(?:Format|SetString)\([^";]*?{kind},\s*({STRING})',
            text,
        )
    ]
    for name, node in nodes():
        if (
            isinstance(node, ast.Raise)
            and isinstance(node.exc, ast.Call)
            and isinstance(node.exc.func, ast.Name)
            and node.exc.func.id == kind
        ):
            found.append(Told(text_of(node.exc.args[0]), '', name))
    return found


def of_log() -> list[Told]:
    found = []
    for name, node in nodes():
        if (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Attribute)
            and isinstance(node.func.value, ast.Name)
            and node.func.value.id in ('logger', '_logger', '_server_logger')
            and node.func.attr
            in ('debug', 'info', 'warning', 'error', 'exception', 'log')
        ):
            text = node.args[node.func.attr == 'log']
            found.append(
                Told(
                    re.sub(r'%\.?\d?[a-z]', GAP, text_of(text)),
                    node.func.attr,
                    name,
                )
            )
    assert found
    return found


@functools.cache
def nodes() -> list[tuple[str, ast.AST]]:
    found: list[tuple[str, ast.AST]] = []
    for path in sorted((ROOT / 'twspy').glob('*.py')):
        if path.name == 'demo.py':
            continue
        tree = ast.parse(path.read_text(encoding='utf-8'))
        found += [(path.name, node) for node in ast.walk(tree)]
    return found


def text_of(node: ast.expr) -> str:
    if isinstance(node, ast.Constant):
        return str(node.value)
    if isinstance(node, ast.JoinedStr):
        return ''.join(map(text_of, node.values))
    return GAP


def check(title: str, told: list[Told], everything: list[Told]) -> None:
    """Whether the section has all of `told`, and only what there is."""
    patterns = [(pattern_of(text), text, row) for text, row in listed(title)]
    assert patterns
    missing = []
    for message in told:
        # What consists of other people's words has none to look for.
        if not re.search(r'\w{3,}', message.text):
            continue
        rows = [
            row
            for pattern, _, row in patterns
            if pattern.fullmatch(message.text)
        ]
        number = message.number
        if not rows or (
            number.isdecimal()
            and number != '0'
            and not any(number in row for row in rows)
        ):
            missing.append(message)
    assert missing == [], f'not on the page: {missing}'
    unknown = [
        text
        for pattern, text, _ in patterns
        if not any(pattern.fullmatch(each.text) for each in everything)
    ]
    assert unknown == [], f'not in the source: {unknown}'


def test_protocol_errors() -> None:
    told = of_core('tws_error_protocol')
    check('ProtocolError', told, told)


def test_errors_of_tls() -> None:
    told = of_core('tws_error_tls')
    more = of_bindings('SSLError')
    check('SSLError', told + more, told + more)


def test_refusals() -> None:
    everything = of_core('tws_error_refused')
    told = [
        each
        for each in everything
        if each.where.startswith('handshake_server')
        or each.where in ('acceptor.c', 'asking.c', 'handshaking.c')
        or (each.where == 'handshake_client.c' and 'status' in each.number)
        or each.where in ('opening.c', 'resolve.c', 'permessage_deflate.c')
    ]
    assert len(told) > 30
    of_server = Told(
        'the server answered with Sec-WebSocket-Extensions \0', '', ''
    )
    check('HandshakeError', told, [*everything, of_server])


@pytest.mark.parametrize(
    'kind', ['ConcurrencyError', 'PingError', 'RuntimeError', 'TimeoutError']
)
def test_errors_of_the_binding(kind: str) -> None:
    # What begins with an underscore is called by the package alone.
    told = [each for each in of_bindings(kind) if ' _loop_' not in each.text]
    assert told
    check(kind, told, told)


def test_wrong_arguments() -> None:
    told = of_bindings('TypeError') + of_bindings('ValueError')
    check('TypeError and ValueError', [], told)


def test_log() -> None:
    told = of_log()
    check('The log', told, told)
    for text, row in listed('The log'):
        levels = {
            each.number.upper()
            for each in told
            if pattern_of(text).fullmatch(each.text)
        }
        named = row[-2]
        assert not levels or levels & {named, 'LOG', 'EXCEPTION'}, text


def test_close_codes() -> None:
    rows = re.findall(
        r'^\| (\d{4}) \| `(\w+)` \|', section('Close codes'), re.M
    )
    assert {int(code) for code, _ in rows} == set(_MEANINGS)
    for code, name in rows:
        assert getattr(twspy, f'CLOSE_{name}') == int(code)


def test_classes() -> None:
    rows = re.findall(r'^\| \[`(\w+)`\]\(#(\w+)\) \| `(\w+)` \|', PAGE, re.M)
    named = set()
    for name, anchor, base in rows:
        assert re.search(rf'^## {name}$', PAGE, re.M)
        assert anchor == name.lower()
        kind = getattr(twspy, name, None)
        if kind is not None:
            named.add(name)
            assert issubclass(kind, __builtins__[base])
    tree = {
        name
        for name in twspy.__all__
        if isinstance(getattr(twspy, name), type)
        and issubclass(getattr(twspy, name), twspy.WebSocketError)
    }
    assert named == tree - {'WebSocketError'}
