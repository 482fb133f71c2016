"""Every code block of docs/ is run, or checked by what reads its language.
What a block is stands in the line before it: see tests/blocks.py."""

from __future__ import annotations

import ast
import configparser
import functools
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import crossplane
import pytest
from blocks import Block, blocks_of
from conftest import find_program
from ports import free_port
from programs import ROOT, Program, run_python, wait_for_port

PAGES = sorted((ROOT / 'docs').rglob('*.md'))
PORTS = re.compile(r'\b(8000|8001|8443)\b')
# What a reader's shell may be given; `make` and `python` are looked into.
COMMANDS = {
    '.',
    'apt-get',
    'certbot',
    'cp',
    'curl',
    'docker',
    'git',
    'journalctl',
    'jq',
    'kill',
    'make',
    'openssl',
    'pip',
    'python',
    'python3',
    'python3.13t',
    'systemctl',
    'twspy',
}
# At most so many blocks of all pages are compiled only.
FRAGMENTS_MAX = 12


class Page:
    """The blocks of a page, one after the other, in a directory."""

    def __init__(self, path: Path, directory: Path) -> None:
        self.path = path
        self.directory = directory
        self.ports: dict[str, int] = {}
        self.source = ''  # of the last program, for what joins it
        self.last: Program | None = None
        self.server: Program | None = None
        self.count = 0

    def run(self) -> None:
        try:
            for block in blocks_of(self.path):
                try:
                    self.take(block)
                except BaseException as error:
                    error.add_note(f'in the block at {block}')
                    if self.server is not None:
                        error.add_note('the server has printed:')
                        error.add_note(self.server.text)
                    raise
            self.end_server()
        finally:
            if self.server is not None:
                self.server.__exit__()

    def take(self, block: Block) -> None:
        text = self.with_ports(block.text)
        if 'file' in block.words:
            (self.directory / block.words['file']).write_text(
                text, encoding='utf-8'
            )
        if 'output' in block.words:
            self.compare(text, block.words['output'])
        elif block.language == 'python':
            self.python(block, text)
        elif block.language == 'sh':
            check_shell(text, self.directory)
            if 'run' in block.words:
                self.shell(text)
        elif block.language in CHECKS:
            CHECKS[block.language](block)
        elif not block.language.startswith('{'):  # a directive has its own
            assert block.language in ('', 'text'), block.language
            if 'config' in block.words:
                CHECKS[block.words['config']](block)
            else:  # what is typed into a shell, amid what it answers
                typed = re.findall(r'^\$ (.*)$', text, re.M)
                check_shell('\n'.join(typed), self.directory)

    def with_ports(self, text: str) -> str:
        def replace(found: re.Match[str]) -> str:
            if found[0] not in self.ports:
                self.ports[found[0]] = free_port()
            return str(self.ports[found[0]])

        return PORTS.sub(replace, text)

    def python(self, block: Block, text: str) -> None:
        words = block.words
        if 'join' in words:
            text = self.source + text
        ast.parse(text)
        if 'fragment' in words:
            return
        self.source = text
        runs = not words.keys() & {'file'} or words.keys() & {
            'server',
            'arguments',
        }
        if not runs:
            return
        self.count += 1
        name = words.get('file') or f'block{self.count}.py'
        (self.directory / name).write_text(text, encoding='utf-8')
        if 'server' in words:
            self.end_server()
        arguments = shlex.split(self.with_ports(words.get('arguments', '')))
        program = run_python(name, *arguments, cwd=self.directory)
        self.last = program
        if 'server' in words:
            self.server = program
            found = PORTS.search(block.text)
            assert found is not None, 'a server needs a port'
            wait_for_port(self.ports[found[0]])
            return
        with program:
            for line in words.get('stdin', '').split('|'):
                if line:
                    program.type(line)
            status = program.wait()
            if 'raises' in words:
                assert status != 0
                last = program.lines[-1].partition(':')[0]
                assert last.rpartition('.')[2] == words['raises'], program.text
            else:
                assert status == 0, program.text

    def shell(self, text: str) -> None:
        done = subprocess.run(
            ['sh', '-ec', text],
            cwd=self.directory,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env={
                **os.environ,
                'PATH': f'{Path(sys.executable).parent}:{os.environ["PATH"]}',
                'PYTEST_ADDOPTS': '-p no:cacheprovider',
                'PYTEST_DISABLE_PLUGIN_AUTOLOAD': '1',
            },
            text=True,
            timeout=40,
        )
        assert done.returncode == 0, done.stdout

    def compare(self, text: str, whose: str) -> None:
        program = self.server if whose == 'server' else self.last
        assert program is not None, 'there is no program before it'
        place = 0
        for line in text.splitlines():
            pattern = '.*'.join(map(re.escape, line.split('...')))
            while True:
                if place == len(program.lines):
                    assert program is self.server, (
                        f'{line!r} is not in {program.text!r}'
                    )
                    program.next_line()
                place += 1
                if re.fullmatch(pattern, program.lines[place - 1]):
                    break

    def end_server(self) -> None:
        """Servers end with Ctrl-C, and nothing has gone wrong."""
        server, self.server = self.server, None
        if server is None:
            return
        with server:
            server.send_signal(signal.SIGINT)
            assert server.wait() == 0, server.text
            assert 'Traceback' not in server.text


# --- what is not run ---


def commands_of(text: str) -> Iterator[list[str]]:
    """The words of each command, as a shell would split them."""
    for line in text.replace('\\\n', ' ').splitlines():
        words = shlex.shlex(line, posix=True, punctuation_chars=True)
        words.whitespace_split = True
        command: list[str] = []
        for word in words:
            if set(word) <= set('|&;'):
                yield command
                command = []
            else:
                command.append(word)
        yield command


def check_shell(text: str, directory: Path) -> None:
    """The commands are known ones; files and targets are there."""
    for words in commands_of(text):
        while words and re.match(r'^\w+=', words[0]):
            del words[0]
        if not words:
            continue
        name, arguments = words[0], words[1:]
        assert name in COMMANDS, f'{name!r} is not in COMMANDS'
        if name == 'make':
            makefile = (ROOT / 'Makefile').read_text(encoding='utf-8')
            for target in arguments:
                if '=' not in target:
                    assert re.search(rf'^{target}:', makefile, re.M), words
        elif name == 'twspy':
            check_twspy(arguments)
        elif name.startswith('python'):
            check_python(arguments, directory)


@functools.cache
def help_of(*words: str) -> str:
    return subprocess.run(
        [sys.executable, '-m', 'twspy', *words, '--help'],
        check=True,
        capture_output=True,
        text=True,
    ).stdout


def check_twspy(words: list[str]) -> None:
    """Its commands and options are in its own help."""
    if words and not words[0].startswith('-'):
        assert re.search(rf'\b{re.escape(words[0])}\b', help_of()), words
        help_text = help_of(words[0])
    else:
        help_text = help_of()
    for word in words:
        option = re.match(r'--?[a-z][a-z-]*', word)
        if option:
            pattern = rf'(?<![\w-]){re.escape(option[0])}(?![\w-])'
            assert re.search(pattern, help_text), f'{option[0]} of {words}'


def check_python(words: list[str], directory: Path) -> None:
    while words and re.fullmatch(r'-[a-ln-zA-Z]', words[0]):
        del words[: 2 if words[0] in '-X-W' else 1]
    if not words:
        return
    if words[0] == '-m':
        part = words[1].replace('.', '/')
        if part == 'twspy':
            check_twspy(words[2:])
        elif part.partition('/')[0] == 'twspy':
            assert (ROOT / f'{part}.py').exists() or (
                ROOT / part / '__main__.py'
            ).exists(), words[1]
    else:
        places = directory, ROOT
        assert any((place / words[0]).exists() for place in places), words[0]


def check_nginx(block: Block) -> None:
    """What stands in /etc/nginx/conf.d, or the whole file."""
    text = block.text
    if 'http {' not in text:
        text = f'events {{}}\nhttp {{\n{text}\n}}\n'
    path = scratch(block, 'nginx.conf', text)
    parsed = crossplane.parse(
        str(path), strict=True, check_args=True, check_ctx=True
    )
    assert parsed['status'] == 'ok', parsed['errors']
    program = shutil.which('nginx', path='/usr/sbin:/usr/bin')
    if program is not None:
        # The certificates of the page are not here.
        text = re.sub(
            r'(ssl_certificate(?:_key)?) \S+;',
            rf'\1 {make_certificate(path.parent)};',
            f'pid {path.parent}/pid; error_log stderr;\n{text}',
        )
        # Nor may everybody bind the ports below 1024.
        text = re.sub(r'\blisten \d+', f'listen {free_port()}', text)
        path.write_text(text, encoding='utf-8')
        run_tool(program, '-t', '-q', '-p', path.parent, '-c', path)


def make_certificate(directory: Path) -> Path:
    """A certificate, with its key in the same file."""
    certfile, both = directory / 'one.pem', directory / 'both.pem'
    if not both.exists():
        run_tool(
            *(find_program('openssl'), 'req', '-x509', '-nodes'),
            *('-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1'),
            *('-subj', '/CN=localhost', '-days', '1'),
            *('-keyout', both, '-out', certfile),
        )
        both.write_bytes(both.read_bytes() + certfile.read_bytes())
    return both


HAPROXY_SECTIONS = {'global', 'defaults', 'frontend', 'backend'}
HAPROXY_WORDS = {
    'acl',
    'balance',
    'bind',
    'default_backend',
    'http-request',
    'maxconn',
    'mode',
    'option',
    'server',
    'timeout',
    'use_backend',
}


def check_haproxy(block: Block) -> None:
    for line in block.text.splitlines():
        words = line.split()
        if words and not words[0].startswith('#'):
            known = HAPROXY_WORDS if line[0] == ' ' else HAPROXY_SECTIONS
            assert words[0] in known, line
    program = shutil.which('haproxy', path='/usr/sbin:/usr/bin')
    if program is not None:
        crt = make_certificate(directories[0])
        text = re.sub(r' ssl crt \S+', f' ssl crt {crt}', block.text)
        run_tool(program, '-c', '-f', scratch(block, 'haproxy.cfg', text))


def check_caddy(block: Block) -> None:
    depth = 0
    for line in block.text.splitlines():
        words = line.split()
        if not words:
            continue
        if words == ['}']:
            depth -= 1
        elif depth:
            known = {'reverse_proxy', 'root', 'file_server', 'handle'}
            assert words[0] in known, line
        depth += words[-1] == '{'
        assert depth >= 0
    assert depth == 0
    program = shutil.which('caddy')
    if program is not None:
        path = scratch(block, 'Caddyfile', block.text)
        run_tool(
            program, 'validate', '--adapter', 'caddyfile', '--config', path
        )


SYSTEMD = {'Unit', 'Service', 'Socket', 'Install'}


def check_systemd(block: Block) -> None:
    parser = configparser.ConfigParser(strict=False, interpolation=None)
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read_string(block.text)
    assert parser.sections()
    assert set(parser.sections()) <= SYSTEMD
    kind = 'socket' if 'Socket' in parser else 'service'
    if kind == 'service':
        assert parser['Service']['ExecStart'].startswith('/')
    program = shutil.which('systemd-analyze')
    if program is not None:
        text = re.sub(r'(?m)^Exec(\w+)=.*', r'Exec\1=/bin/true', block.text)
        path = scratch(block, f'chat.{kind}', text)
        other = path.with_name('chat.service')
        if not other.exists():
            other.write_text('[Service]\nExecStart=/bin/true\n')
        run_tool(program, 'verify', '--man=no', str(path))


DOCKER = set(
    'FROM RUN COPY WORKDIR USER EXPOSE CMD ENV STOPSIGNAL HEALTHCHECK'.split()
)


def check_docker(block: Block) -> None:
    text = block.text.replace('\\\n', ' ')
    lines = [line for line in text.splitlines() if line]
    assert lines[0].startswith('FROM ')
    for line in lines:
        assert line.split()[0] in DOCKER or line.startswith('#'), line
    (command,) = (line for line in lines if line.startswith('CMD '))
    # In the form that starts no shell, which would not pass signals on.
    assert isinstance(ast.literal_eval(command[4:]), list)


def check_javascript(block: Block) -> None:
    path = scratch(block, 'script.js', block.text)
    run_tool(find_program('node'), '--check', str(path))


def check_html(block: Block) -> None:
    scripts = re.findall(r'<script>\n(.*?)</script>', block.text, re.S)
    assert scripts or '<script' not in block.text
    for script in scripts:
        path = scratch(block, 'script.js', script)
        run_tool(find_program('node'), '--check', str(path))


CHECKS = {
    'caddy': check_caddy,
    'docker': check_docker,
    'haproxy': check_haproxy,
    'html': check_html,
    'ini': check_systemd,
    'javascript': check_javascript,
    'nginx': check_nginx,
}

directories: list[Path] = []


@pytest.fixture(autouse=True)
def directory(tmp_path: Path) -> Path:
    """Where the checks write what they give to tools."""
    directories[:] = [tmp_path / 'checks']
    directories[0].mkdir()
    return tmp_path


def scratch(block: Block, name: str, text: str) -> Path:
    path = directories[0] / name
    path.write_text(text, encoding='utf-8')
    return path


def run_tool(*command: str | Path) -> None:
    done = subprocess.run(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=40,
    )
    assert done.returncode == 0, done.stdout


# --- the tests ---


# A tutorial is a dozen programs, one after the other.
@pytest.mark.timeout(180)
@pytest.mark.parametrize(
    'path', PAGES, ids=lambda path: str(path.relative_to(ROOT / 'docs'))
)
def test_page(path: Path, tmp_path: Path) -> None:
    place = tmp_path / 'page'
    place.mkdir()
    Page(path, place).run()


def test_few_blocks_are_fragments() -> None:
    fragments = [
        str(block)
        for path in PAGES
        for block in blocks_of(path)
        if 'fragment' in block.words
    ]
    assert len(fragments) <= FRAGMENTS_MAX, fragments


BROKEN = {
    'a program that raises': '```python\nraise SystemExit(3)\n```\n',
    'no Python': '```python\ndef f(:\n```\n',
    'another output': (
        '```python\nprint(1)\n```\n\n<!-- test: output -->\n```text\n2\n```\n'
    ),
    'another error': (
        '<!-- test: raises KeyError -->\n```python\nopen("none")\n```\n'
    ),
    'no error': '<!-- test: raises OSError -->\n```python\n1\n```\n',
    'a fragment that is none': (
        '<!-- test: fragment -->\n```python\nif:\n```\n'
    ),
    'a server with a traceback': (
        '<!-- test: server -->\n```python\nimport twspy\n'
        'class S(twspy.Server):\n'
        '    def onopen(self, client): 1 / 0\n'
        "S(('127.0.0.1', 8000)).run()\n```\n\n"
        "```python\nimport twspy\ntwspy.connect('ws://127.0.0.1:8000/')"
        '.close()\n```\n'
    ),
    'an unknown word': '<!-- test: frgment -->\n```python\n1\n```\n',
    'a word without a block': '<!-- test: join -->\n\n```python\n1\n```\n',
    'no target of make': '```sh\nmake nonsense\n```\n',
    'no file': '```sh\npython nowhere.py\n```\n',
    'no command of ours': '```sh\npython -m twspy frobnicate\n```\n',
    'no option of ours': '```sh\ntwspy echo --prot 1\n```\n',
    'typed': '```\n$ twspy echo --prot 1\n```\n',
    'an unknown command behind another': '```sh\ncp a b | rm\n```\n',
    'an unknown command': '```sh\nrm -rf x\n```\n',
    'shell that fails': '<!-- test: run -->\n```sh\ncp a b\n```\n',
    'nginx': '```nginx\nserver { listn 80; }\n```\n',
    'nginx elsewhere': '```nginx\nproxy_pass http://a;\n```\n',
    'haproxy': '<!-- test: config haproxy -->\n```text\nfronted a\n```\n',
    'caddy': '<!-- test: config caddy -->\n```text\na {\n```\n',
    'systemd': '```ini\n[Service]\nExecStart=python\n```\n',
    'docker': '```docker\nFROM a\nCMD python x.py\n```\n',
    'javascript': '```javascript\nlet = ;\n```\n',
    'html': '```html\n<script>\nlet = ;\n</script>\n```\n',
    'a language nobody checks': '```perl\n1\n```\n',
}


@pytest.mark.parametrize('kind', BROKEN)
def test_what_is_broken_is_found(kind: str, tmp_path: Path) -> None:
    path = tmp_path / 'page.md'
    path.write_text(f'# A page\n\n{BROKEN[kind]}', encoding='utf-8')
    with pytest.raises((AssertionError, SyntaxError)):
        Page(path, tmp_path).run()
