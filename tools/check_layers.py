"""Fails where an include or an import breaks the layers.

C: protocol < net, loop < engine < python. An include points down or stays in
its layer; net and loop do not see each other; only python may include
Python.h. Python: modules do not import each other in circles, and those that
everything uses import nothing of ours.
"""

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import source
from source import Finding

MAY_INCLUDE = {
    'protocol': {'protocol'},
    'net': {'protocol', 'net'},
    'loop': {'protocol', 'loop'},
    'engine': {'protocol', 'net', 'loop', 'engine'},
    'python': {'protocol', 'net', 'loop', 'engine', 'python'},
}

# System headers that only the named layers may include.
RESERVED = [
    (
        re.compile(
            r'(Python|structmember|pythread|datetime|frameobject)\.h$'
            r'|(cpython|internal)/'
        ),
        {'python'},
    ),
    (re.compile(r'openssl/(ssl|tls1|ssl3|dtls1|x509_vfy)\.h$'), {'net'}),
    (re.compile(r'sys/(epoll|eventfd|timerfd|event)\.h$'), {'loop'}),
    # Bytes in, events out: no I/O, no clock, no threads in protocol.
    (
        re.compile(
            r'(sys/(socket|uio|un|select|poll|time|random|types|stat)'
            r'|poll|unistd|fcntl|netdb|time|pthread|threads|signal)\.h$'
            r'|(netinet|arpa)/'
        ),
        {'net', 'loop', 'engine', 'python'},
    ),
]

# A lock that lies with what it guards, and that the layers above take.
PERMITTED = {('protocol/compression.h', 'pthread.h')}

INCLUDE = re.compile(r'^[ \t]*#[ \t]*include\b[ \t]*(.*?)[ \t]*$', re.M)

# Modules of the package that import nothing of ours.
LEAVES = {'_version', 'enums', 'errors'}


def check_include(
    root: Path, path: Path, layer: str, written: str
) -> str | None:
    """What is wrong with an include, or None."""
    match = re.fullmatch(r'"([^"]+)"|<([^>]+)>', written)
    if match is None:
        return f'include {written}: write the name of a file'
    ours, system = match.groups()
    if system is not None:
        if system.split('/')[0] in MAY_INCLUDE:
            return f'include <{system}>: write our headers in quotes'
        if (f'{layer}/{path.name}', system) in PERMITTED:
            return None
        for pattern, layers in RESERVED:
            if pattern.match(system) and layer not in layers:
                return f'include <{system}>: not in {layer}'
        return None
    target = ours.split('/')[0]
    if '/' not in ours or target not in MAY_INCLUDE:
        return f'include "{ours}": write it as "layer/file.h"'
    if not ours.endswith('.h'):
        return f'include "{ours}": only headers are included'
    if '..' in ours.split('/') or not (root / 'csrc' / ours).is_file():
        return f'include "{ours}": no such header'
    if target not in MAY_INCLUDE[layer]:
        return f'include "{ours}": {layer} may not see {target}'
    return None


def check_c(root: Path) -> Iterator[Finding]:
    for path in source.c_files(root):
        parts = path.relative_to(root / 'csrc').parts
        layer = parts[0]
        if len(parts) != 2 or layer not in MAY_INCLUDE:
            yield Finding(path, 1, 'a source file lies in a layer, csrc/LAYER')
            continue
        text = source.without_comments(
            path.read_text(encoding='utf-8'), keep_strings=True
        )
        includes = list(INCLUDE.finditer(text))
        for match in includes:
            message = check_include(root, path, layer, match.group(1))
            if message is not None:
                line = source.line_of(text, match.start())
                yield Finding(path, line, message)
        # A header that leans on what was included before it is found so.
        own = f'"{layer}/{path.stem}.h"'
        if (
            layer in source.CORE
            and path.suffix == '.c'
            and path.with_suffix('.h').exists()
            and (not includes or includes[0].group(1) != own)
        ):
            yield Finding(path, 1, f'the first include is not {own}')


def is_type_checking(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and ast.unparse(node.test) in (
        'TYPE_CHECKING',
        'typing.TYPE_CHECKING',
    )


def imports(
    tree: ast.AST, module: str, is_package: bool
) -> Iterator[tuple[str, int]]:
    """Full names of what a module imports, but for type checkers only."""
    package = module if is_package else module.rpartition('.')[0]
    nodes: list[ast.AST] = [tree]
    while nodes:
        node = nodes.pop()
        if isinstance(node, ast.If) and is_type_checking(node):
            nodes.extend(node.orelse)
            continue
        nodes.extend(ast.iter_child_nodes(node))
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, node.lineno
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ''
            if node.level:
                parts = package.split('.')
                parts = parts[: len(parts) - node.level + 1]
                base = '.'.join([*parts, *([base] if base else [])])
            for alias in node.names:
                yield f'{base}.{alias.name}', node.lineno


def module_name(package: Path, path: Path) -> str:
    parts = list(path.relative_to(package.parent).with_suffix('').parts)
    if parts[-1] == '__init__':
        parts.pop()
    return '.'.join(parts)


def check_python(root: Path) -> Iterator[Finding]:
    package = root / 'twspy'
    paths = {module_name(package, p): p for p in package.rglob('*.py')}
    graph: dict[str, dict[str, int]] = {}
    for module, path in sorted(paths.items()):
        tree = ast.parse(path.read_text(encoding='utf-8'), str(path))
        graph[module] = {}
        for name, line in imports(tree, module, path.name == '__init__.py'):
            if name.split('.')[0] != 'twspy':
                continue
            if module.partition('.')[2] in LEAVES:
                message = f'{module} imports nothing of ours, but has {name}'
                yield Finding(path, line, message)
            # `from twspy import x` is the module x, or a name of twspy.
            if name not in paths:
                name = name.rpartition('.')[0]
            if name in paths:
                graph[module].setdefault(name, line)
    for module, path in sorted(paths.items()):
        for target, line in graph[module].items():
            if reaches(graph, target, module):
                message = f'{module} and {target} import each other'
                yield Finding(path, line, message)


def reaches(graph: dict[str, dict[str, int]], start: str, end: str) -> bool:
    seen: set[str] = set()
    todo = [start]
    while todo:
        module = todo.pop()
        if module == end:
            return True
        if module not in seen:
            seen.add(module)
            todo.extend(graph.get(module, ()))
    return False


def check(root: Path) -> Iterator[Finding]:
    yield from check_c(root)
    yield from check_python(root)


if __name__ == '__main__':
    sys.exit(source.main('Checks the layers of C and Python.', check))
