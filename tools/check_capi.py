"""Fails on calls and declarations that csrc does without.

Each rule says why in its message. Comments and strings do not count.
"""

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import source
from source import Finding


class Rule(NamedTuple):
    pattern: re.Pattern[str]
    message: str
    layers: tuple[str, ...] = source.LAYERS


def call(names: str) -> re.Pattern[str]:
    """A call of one of the functions, not of a field of that name."""
    return re.compile(rf'(?<![\w.>])(?:{names})\s*\(')


RULES = [
    Rule(
        call(r'PyGILState_\w+'),
        'attaches to the main interpreter: PyEval_SaveThread/RestoreThread',
    ),
    Rule(
        call('PyModule_AddObject'),
        'steals only on success: PyModule_AddObjectRef',
    ),
    Rule(
        call(r'PyErr_NewException(WithDoc)?'),
        'exception classes are made in twspy/errors.py',
    ),
    Rule(
        call(
            'PyEval_InitThreads|PyEval_(Acquire|Release)Lock|PyCFunction_Call'
        ),
        'deprecated in CPython',
    ),
    Rule(
        re.compile(
            r'\bstatic\s+(?:const\s+)?(?:Py\w*Object|PyTypeObject)\b'
            r'(?:\s*\*+\s*|\s+)\w+\s*(?:=|;|,|\[)'
        ),
        'objects and types live in module state, for each interpreter',
    ),
    Rule(
        call('strcpy|stpcpy|strcat|sprintf|vsprintf|gets|strncpy|strncat'),
        'does not know the size of its target: memcpy or snprintf',
    ),
    Rule(call('alloca|setjmp|longjmp|_setjmp|sigsetjmp'), 'breaks the stack'),
    Rule(
        call('rand|srand|random|srandom|rand_r|[dejlmn]rand48'),
        'not a cryptographic source: net/random.h',
    ),
    Rule(
        call('strtok|gmtime|localtime|asctime|ctime|setenv|putenv'),
        'shares state between threads',
    ),
    Rule(call('ato[ilf]|atoll|sscanf'), 'does not report overflow'),
    Rule(
        call('system|popen|tmpnam|tempnam|mktemp|select|pselect'),
        'unsafe, or fails above 1024 descriptors',
    ),
    Rule(
        call('abort|exit|_exit|_Exit|quick_exit'),
        'a library never ends the process: return a status',
    ),
    Rule(
        call('printf|fprintf|vprintf|vfprintf|puts|fputs|putchar|perror'),
        'the core never prints: fill struct tws_error',
        source.CORE,
    ),
]

STATIC = re.compile(r'^[ \t]*static\b[^;{}()=]*(?:=|;|\{)', re.M)
# Tables that CPython takes as they are, and keyword lists for its parsers.
STATIC_ALLOWED = re.compile(
    r'\bconst\b|\b_Atomic\b|\batomic_\w+\b|\b_Thread_local\b'
    r'|\b(?:struct\s+)?Py(?:MethodDef|MemberDef|GetSetDef|ModuleDef'
    r'|ModuleDef_Slot|Type_Slot|Type_Spec|BufferProcs'
    r'|StructSequence_Desc|StructSequence_Field)\b'
    r'|\bchar\s*\*\s*\w+\s*\[\s*\]'
)

TRAVERSE = re.compile(r'\{\s*Py_tp_traverse\s*,\s*(?:\([^)]*\)\s*)?(\w+)')


def check_text(layer: str, text: str) -> Iterator[tuple[int, str]]:
    """Offsets of what is wrong in a C text without comments and strings."""
    for rule in RULES:
        if layer in rule.layers:
            for match in rule.pattern.finditer(text):
                words = ' '.join(match.group().split())
                yield match.start(), f'{words.rstrip(" (")}: {rule.message}'
    for match in STATIC.finditer(text):
        words = ' '.join(match.group().split())
        if not STATIC_ALLOWED.search(words):
            yield match.start(), f'{words}: no global mutable state'
    # A heap type keeps its type alive: traverse has to visit it.
    for match in TRAVERSE.finditer(text):
        name = match.group(1)
        body = re.search(
            rf'^{name}\(.*?\n\{{(.*?)^\}}', text, re.DOTALL | re.M
        )
        visits = r'Py_VISIT\(\s*Py_TYPE\(|\w+_traverse\('
        if body is None or not re.search(visits, body.group(1)):
            yield match.start(), f'{name}: Py_VISIT(Py_TYPE(self)) is missing'


def check(root: Path) -> Iterator[Finding]:
    for path in source.c_files(root):
        layer = path.relative_to(root / 'csrc').parts[0]
        text = source.without_comments(
            path.read_text(encoding='utf-8'), keep_strings=False
        )
        for offset, message in sorted(check_text(layer, text)):
            yield Finding(path, source.line_of(text, offset), message)


if __name__ == '__main__':
    sys.exit(source.main('Checks csrc for banned calls.', check))
