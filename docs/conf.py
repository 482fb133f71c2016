"""How Sphinx makes the documentation: `make docs`."""

from __future__ import annotations

import inspect
import logging
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sphinx.application import Sphinx

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import twspy  # noqa: E402

project = 'twspy'
html_show_copyright = False
version = release = twspy.__version__

extensions = ['myst_parser', 'sphinx.ext.autodoc']
exclude_patterns = ['_build']
html_theme = 'furo'
html_title = f'twspy {release}'
html_static_path = ['_static']
html_css_files = ['custom.css']
html_show_sphinx = False
html_copy_source = False
# Nothing is fetched from elsewhere: the pages work without a network.
html_theme_options = {'navigation_with_keys': True}

myst_enable_extensions = ['deflist', 'fieldlist', 'colon_fence']
myst_heading_anchors = 4
pygments_style = 'friendly'
smartquotes = False

autodoc_member_order = 'groupwise'
autodoc_typehints = 'none'
autodoc_preserve_defaults = True
# Docstrings are written for help(): words in backticks are code.
default_role = 'code'
# Names of others, as of the standard library, can't be looked up without a
# network. Names of twspy must be found.
nitpick_ignore_regex = [('py:.*', r'(?!twspy\b).*')]


# --- docstrings, which are plain text, as reStructuredText ---

CODE = re.compile(r'(?<![`\w])`([^`\n]+(?:\n[^`\n]+)?)`(?![`_])')
TERM = re.compile(r'^(\*?[\w()]+(?:, \w+)*)  +(\S.*)$')
INDENTED = re.compile(r'^   +\S')


def as_definitions(lines: list[str]) -> list[str]:
    """Turn two columns, names and what they mean, into a list.

    Such a block is a paragraph whose lines begin with a name and two spaces,
    or go on in the second column.
    """
    out: list[str] = []
    block: list[str] = []

    def flush() -> None:
        if (
            block
            and TERM.match(block[0])
            and all(TERM.match(line) or INDENTED.match(line) for line in block)
        ):
            out.append('')
            for line in block:
                found = TERM.match(line)
                if found:
                    out.extend([f'``{found[1]}``', f'   {found[2]}'])
                else:
                    out.append(f'   {line.strip()}')
            out.append('')
        else:
            out.extend(block)
        block.clear()

    for line in lines:
        if line.strip():
            block.append(line)
        else:
            flush()
            out.append('')
    flush()
    return out


def emphasized(lines: list[str], names: set[str]) -> list[str]:
    """Where a sentence begins with arguments and a colon, these in bold."""

    def mark(found: re.Match[str]) -> str:
        if found[1] and set(found[1].split(', ')) <= names:
            return f'**{found[1]}**: '
        return found[0]

    out = []
    before = ''
    for line in lines:
        if not before or before.endswith('.'):
            line = re.sub(r'^(\w+(?:, \w+)*): ', mark, line)
        out.append(re.sub(r'(?<=\. )(\w+(?:, \w+)*): ', mark, line))
        before = line.strip()
    return out


def on_docstring(
    app: Sphinx,
    what: str,
    name: str,
    obj: object,
    options: object,
    lines: list[str],
) -> None:
    # Literals, as interpreted text would swallow backslashes.
    text = CODE.sub(r'``\1``', '\n'.join(lines))
    try:
        names = set(inspect.signature(obj).parameters)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        names = set()
    lines[:] = emphasized(as_definitions(text.split('\n')), names)


def on_skip(
    app: Sphinx, what: str, name: str, obj: object, skip: bool, options: Any
) -> bool | None:
    """Methods of `object`, and private ones, are no part of the API."""
    return True if name.startswith('_') else None


LINK = re.compile(r'\[([^\]]+)\]\(((?:\.\./)+[^)#\s]+)(?:#[^)\s]*)?\)')


def on_source(app: Sphinx, docname: str, source: list[str]) -> None:
    """Links to files beside docs/ work in the source; pages name the file."""
    place = Path(app.srcdir, docname).parent

    def name(found: re.Match[str]) -> str:
        target = (place / found[2]).resolve()
        if target.is_relative_to(app.srcdir) or not target.exists():
            return found[0]
        words, path = found[1], target.relative_to(ROOT)
        return f'`{path}`' if target.name in words else f'{words} (`{path}`)'

    source[0] = LINK.sub(name, source[0])


def is_told(record: logging.LogRecord) -> bool:
    """Pages find their place by patterns, of which some match none."""
    return 'toctree glob pattern' not in record.getMessage()


def setup(app: Sphinx) -> dict[str, bool]:
    logging.getLogger('sphinx.sphinx.directives.other').addFilter(is_told)
    app.connect('source-read', on_source)
    app.connect('autodoc-process-docstring', on_docstring)
    app.connect('autodoc-skip-member', on_skip)
    return {'parallel_read_safe': True}
