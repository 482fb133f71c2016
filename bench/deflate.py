"""Measures what compression costs and saves, by settings of zlib.

Deflates and inflates messages of several sorts with `deflate.c`, and prints
bytes, time and memory as Markdown. bench/README.md tells more.
"""

from __future__ import annotations

import argparse
import json
import os
import pydoc_data.topics
import random
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from statistics import median
from typing import NamedTuple

from suite.system import Failure
from support import take_last_core

HERE = Path(__file__).resolve().parent
SOURCE = HERE / 'deflate.c'
BUILD = HERE.parent / 'build' / 'bench'
PROGRAM = BUILD / 'deflate'


# Messages --------------------------------------------------------------------


def english() -> str:
    """Half a megabyte of prose that every Python has."""
    topics = pydoc_data.topics.topics
    return '\n'.join(topics[name] for name in sorted(topics))


PROSE = english()
SENTENCES = [
    ' '.join(line.split())
    for line in PROSE.replace('. ', '.\n').split('\n\n')
    if 30 < len(line) < 400
]


def identifier(rng: random.Random) -> str:
    return f'{rng.getrandbits(64):016x}'


def typing(rng: random.Random, number: int) -> bytes:
    """A notice of about 64 bytes, as games and chats send them."""
    message = {
        'type': rng.choice(['typing', 'read', 'cursor']),
        'user': f'user-{rng.randrange(40)}',
        'room': rng.choice(['general', 'random', 'support']),
        'n': number,
    }
    return json.dumps(message, separators=(',', ':')).encode()


def position(rng: random.Random, number: int) -> bytes:
    """Where something is, of about 120 bytes."""
    message = {
        'id': f'vehicle-{rng.randrange(300)}',
        'lat': round(rng.uniform(48, 49), 6),
        'lon': round(rng.uniform(2, 3), 6),
        'speed': round(rng.expovariate(0.03), 1),
        'heading': rng.randrange(360),
        'time': 1_700_000_000 + number,
    }
    return json.dumps(message, separators=(',', ':')).encode()


def trade(rng: random.Random, number: int) -> bytes:
    """A tick of an exchange, of about 200 bytes."""
    symbol = rng.choice(['BTCUSDT', 'ETHUSDT', 'SOLUSDT', 'XRPEUR'])
    message = {
        'stream': f'{symbol.lower()}@trade',
        'data': {
            'e': 'trade',
            'E': 1_700_000_000_000 + number * 37 + rng.randrange(30),
            's': symbol,
            't': 3_200_000_000 + number,
            'p': f'{rng.uniform(100, 70_000):.8f}',
            'q': f'{rng.expovariate(2):.8f}',
            'b': rng.getrandbits(36),
            'a': rng.getrandbits(36),
            'm': rng.random() < 0.5,
        },
    }
    return json.dumps(message, separators=(',', ':')).encode()


def chat(rng: random.Random, number: int) -> bytes:
    """A chat message of about 1 KiB, a third of it prose."""
    user = rng.randrange(40)
    author = random.Random(user)
    message = {
        'type': 'message.new',
        'cid': f'messaging:{identifier(author)}',
        'message': {
            'id': f'{identifier(rng)}-{identifier(rng)}',
            'text': ' '.join(rng.choices(SENTENCES, k=4))[:600],
            'user': {
                'id': f'user-{user}',
                'name': f'User Number {user}',
                'image': f'https://cdn.example.com/{identifier(author)}.png',
                'role': 'user',
                'online': True,
                'last_active': f'2024-05-01T12:{number // 60 % 60:02}:11.4Z',
            },
            'attachments': [],
            'mentioned_users': [],
            'reaction_counts': {},
            'latest_reactions': [],
            'reply_count': rng.randrange(4),
            'created_at': f'2024-05-01T12:{number // 60 % 60:02}:12.843Z',
            'updated_at': f'2024-05-01T12:{number // 60 % 60:02}:12.843Z',
            'shadowed': False,
            'silent': False,
            'pinned': False,
        },
        'watcher_count': 17,
        'unread_count': rng.randrange(9),
    }
    return json.dumps(message, separators=(',', ':')).encode()


def page(rng: random.Random, number: int) -> bytes:
    """An answer of an API with 60 records, of about 16 KiB."""
    items = [
        {
            'id': number * 60 + index,
            'uuid': identifier(rng),
            'name': ' '.join(rng.choice(SENTENCES).split()[:4]),
            'description': rng.choice(SENTENCES)[:80],
            'price': round(rng.expovariate(0.01), 2),
            'currency': 'EUR',
            'in_stock': rng.random() < 0.8,
            'tags': rng.sample(['new', 'sale', 'blue', 'red', 'large'], 2),
            'position': {
                'lat': round(rng.uniform(-90, 90), 6),
                'lon': round(rng.uniform(-180, 180), 6),
            },
        }
        for index in range(50)
    ]
    message = {'page': number, 'per_page': 50, 'items': items}
    return json.dumps(message, separators=(',', ':')).encode()


def text(rng: random.Random, number: int) -> bytes:
    """1 MiB of English."""
    start = rng.randrange(len(PROSE))
    return (PROSE[start:] + PROSE * 3).encode()[: 1 << 20]


def noise(rng: random.Random, number: int) -> bytes:
    """1 KiB of which nothing can be left out, as in a picture."""
    return rng.randbytes(1024)


class Sort(NamedTuple):
    """A sort of messages."""

    title: str
    make: Callable[[random.Random, int], bytes]
    count: int


SORTS = {
    'typing': Sort('notice, 58 B', typing, 600),
    'position': Sort('position, 95 B', position, 400),
    'trade': Sort('tick, 173 B', trade, 300),
    'chat': Sort('chat, 1 KiB', chat, 100),
    'page': Sort('records, 14 KiB', page, 6),
    'text': Sort('English, 1 MiB', text, 2),
    'noise': Sort('noise, 1 KiB', noise, 100),
}


def write_corpus(name: str) -> tuple[Path, float]:
    """Write messages as deflate.c reads them; the file and the mean size."""
    sort = SORTS[name]
    rng = random.Random(name)
    messages = [sort.make(rng, number) for number in range(sort.count)]
    path = BUILD / f'{name}.corpus'
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open('wb') as file:
        for message in messages:
            file.write(len(message).to_bytes(4, 'little') + message)
    return path, sum(map(len, messages)) / len(messages)


# Measuring -------------------------------------------------------------------


class Setting(NamedTuple):
    """What deflate.c takes."""

    window_bits: int
    mem_level: int
    level: int
    takeover: bool

    def __str__(self) -> str:
        kept = 'kept' if self.takeover else 'no'
        return f'{self.window_bits} | {self.mem_level} | {self.level} | {kept}'


# The table of docs/compression.md.
DOCUMENTED = [
    Setting(9, 1, 6, True),
    Setting(10, 3, 6, True),
    Setting(11, 4, 6, True),
    Setting(12, 5, 1, True),
    Setting(12, 5, 6, True),
    Setting(12, 5, 9, True),
    Setting(13, 6, 6, True),
    Setting(15, 8, 1, True),
    Setting(15, 8, 6, True),
    Setting(12, 5, 6, False),
    Setting(15, 8, 6, False),
]


class Cost(NamedTuple):
    """What deflate.c prints."""

    deflated: float  # bytes a message
    deflating: float  # seconds a message
    inflating: float
    deflater: int  # bytes of memory
    inflater: int


def compile_program() -> None:
    compiler = shlex.split(os.environ.get('CC', 'cc'))
    BUILD.mkdir(parents=True, exist_ok=True)
    subprocess.run(
        [
            *(*compiler, '-std=c11', '-D_GNU_SOURCE', '-O2', '-Wall'),
            *('-o', str(PROGRAM), str(SOURCE), '-lz'),
        ],
        check=True,
    )


def run_round(
    corpus: Path, settings: Iterable[Setting], connections: int
) -> list[Cost]:
    lines = [
        f'{setting.window_bits} {setting.mem_level} {setting.level} '
        f'{int(setting.takeover)} {connections}'
        for setting in settings
    ]
    done = subprocess.run(
        [PROGRAM, corpus],
        input='\n'.join(lines),
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    costs = [Cost(**json.loads(line)) for line in done.stdout.splitlines()]
    if len(costs) != len(lines):
        raise Failure(f'deflate printed {len(costs)} lines of {len(lines)}')
    return costs


def measure(
    name: str, settings: list[Setting], rounds: int, connections: int
) -> tuple[float, list[Cost]]:
    """The mean size of messages, and medians for each setting."""
    corpus, size = write_corpus(name)
    results = []
    for number in range(rounds):
        step = 1 if number % 2 == 0 else -1
        costs = run_round(corpus, settings[::step], connections)
        results.append(costs[::step])
    medians = [
        Cost(*(median(values) for values in zip(*column, strict=True)))
        for column in zip(*results, strict=True)
    ]
    return size, medians


# Results ---------------------------------------------------------------------


def kib(size: float) -> str:
    return f'{size / 1024:.0f} KiB'


def print_table(
    settings: list[Setting], results: dict[str, tuple[float, list[Cost]]]
) -> None:
    """A line for each setting: memory, then each sort of messages."""
    titles = ' | '.join(SORTS[name].title for name in results)
    print(
        '| window bits | mem_level | level | context | deflater | inflater '
        f'| {titles} |'
    )
    print('|--:|--:|--:|:--|--:|--:' + '|--:' * len(results) + '|')
    for number, setting in enumerate(settings):
        cells = [str(setting)]
        for name, (size, costs) in results.items():
            cost = costs[number]
            if len(cells) == 1:
                cells += [kib(cost.deflater), kib(cost.inflater)]
            unit, word = (1e3, ' ms') if name == 'text' else (1e6, '')
            cells.append(
                f'{cost.deflated / size:.1%}, {cost.deflating * unit:.1f} + '
                f'{cost.inflating * unit:.1f}{word}'
            )
        print(f'| {" | ".join(cells)} |')


def numbers(text: str) -> list[int]:
    return [int(word) for word in text.split(',')]


def parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description='Measures compression by settings of zlib.',
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add = parser.add_argument
    add('sorts', nargs='*', default=list(SORTS), help=', '.join(SORTS))
    add('--window-bits', type=numbers, help='like 9,12 (with the next four,')
    add('--mem-level', type=numbers, help='all combinations are measured;')
    add('--level', type=numbers, help='without them, those of the')
    add('--takeover', choices=['yes', 'no'], help='documentation)')
    add('--rounds', type=int, default=3)
    add(
        '--connections',
        type=int,
        default=100,
        help='contexts that take turns: with one, all is in the caches',
    )
    options = parser.parse_args()
    for name in options.sorts:
        if name not in SORTS:
            parser.error(f'no messages {name!r}: one of {", ".join(SORTS)}')
    return options


def chosen_settings(options: argparse.Namespace) -> list[Setting]:
    chosen = (options.window_bits, options.mem_level, options.level)
    if not any(chosen) and options.takeover is None:
        return DOCUMENTED
    takeovers = {'yes': [True], 'no': [False], None: [True, False]}
    return [
        Setting(window_bits, mem_level, level, takeover)
        for takeover in takeovers[options.takeover]
        for window_bits in options.window_bits or [12]
        for mem_level in options.mem_level or [5]
        for level in options.level or [6]
    ]


def main() -> int:
    options = parse_options()
    settings = chosen_settings(options)
    results = {}
    try:
        compile_program()
        take_last_core()
        for name in options.sorts:
            connections = options.connections if name != 'text' else 1
            print(f'{SORTS[name].title} ...', file=sys.stderr)
            results[name] = measure(
                name, settings, options.rounds, connections
            )
        print_table(settings, results)
    except (Failure, OSError, subprocess.CalledProcessError) as error:
        print(f'bench: {error}', file=sys.stderr)
        return 1
    return 0


if __name__ == '__main__':
    sys.exit(main())
