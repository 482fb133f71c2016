"""Writes what was measured as Markdown: medians, ranges, ratios."""

from __future__ import annotations

import html
from statistics import median
from typing import Any, NamedTuple

from .cells import CELLS, CLIENT_CELLS, Cell
from .measuring import Results
from .peers import CLIENTS, LIMIT, SERVERS, SUBJECT

MICRO = 1e6


class Record(NamedTuple):
    """A cell's results, and why some servers are not among them."""

    results: Results
    failed: dict[str, str]


def pick(rounds: list[dict[str, Any]], *path: str) -> list[float]:
    values = []
    for result in rounds:
        value: Any = result
        for key in path:
            value = value.get(key) if isinstance(value, dict) else None
        if value is not None:
            values.append(float(value))
    return values


def spread(values: list[float], form: str) -> str:
    """The median, and the range around it."""
    if not values:
        return ''
    text = f'{median(values):{form}}'
    if len(values) > 1:
        text += f' ({min(values):{form}} to {max(values):{form}})'
    return text


def middle(values: list[float], form: str) -> str:
    return f'{median(values):{form}}' if values else ''


def against(
    results: Results, name: str, value: str, subject: str = SUBJECT
) -> str:
    """How many times as much the subject does, by round; the median."""
    pairs = zip(
        pick(results.get(subject, []), value),
        pick(results[name], value),
        strict=False,
    )
    ratios = [ours / theirs for ours, theirs in pairs if theirs]
    return middle(ratios, '.2f')


def cpu_each(rounds: list[dict[str, Any]], counter: str) -> list[float]:
    """Processor time of the server for each message, in µs."""
    return [
        result['server_cpu'] / result[counter] * MICRO
        for result in rounds
        if 'server_cpu' in result and result[counter]
    ]


def busy(rounds: list[dict[str, Any]], who: str) -> str:
    return middle(
        [r[who] / r['seconds'] for r in rounds if r.get(who) is not None],
        '.0%',
    )


def ordered(results: Results, value: str) -> list[str]:
    """Those who did most first."""
    return sorted(
        results, key=lambda name: -median(pick(results[name], value))
    )


def table(heads: list[str], rows: list[list[str]]) -> list[str]:
    lines = [f'| {" | ".join(heads)} |']
    lines.append(f'| --- |{" ---: |" * (len(heads) - 1)}')
    lines += [f'| {" | ".join(row)} |' for row in rows]
    return lines


# Cells -----------------------------------------------------------------------


def echo_table(cell: Cell, results: Results) -> list[str]:
    counter = 'handshakes' if cell.how == 'churn' else 'messages'
    one = cell.unit.removesuffix('s').replace('deliverie', 'delivery')
    rows = []
    for name in ordered(results, 'rate'):
        rounds = results[name]
        rows.append(
            [
                SERVERS[name].title,
                spread(pick(rounds, 'rate'), ',.0f'),
                against(results, name, 'rate'),
                middle(cpu_each(rounds, counter), '.2f'),
                middle(pick(rounds, 'latency', 'p50'), ',.0f'),
                middle(pick(rounds, 'latency', 'p99'), ',.0f'),
                f'{busy(rounds, "server_cpu")}, {busy(rounds, "load_cpu")}',
            ]
        )
    heads = [
        'server',
        f'{cell.unit}/s',
        'twspy against it',
        f'CPU a {one}, µs',
        'median, µs',
        '99 %, µs',
        'cores busy: server, load',
    ]
    return table(heads, rows)


def latency_table(results: Results) -> list[str]:
    """Those who could not keep up with the rate have no latency to tell."""
    rows = []

    def key(name: str) -> float:
        return median(pick(results[name], 'latency', 'p99'))

    for name in sorted(results, key=key):
        rounds = results[name]
        kept_up = not any(pick(rounds, 'unsent'))
        latency = [
            middle(pick(rounds, 'latency', share), ',.0f')
            if kept_up
            else 'behind'
            for share in ('p50', 'p99', 'p99.9')
        ]
        rows.append(
            [
                SERVERS[name].title,
                middle(pick(rounds, 'rate'), ',.0f'),
                *latency,
                middle(cpu_each(rounds, 'messages'), '.2f'),
            ]
        )
    heads = ['server', 'messages/s', 'median, µs', '99 %, µs', '99.9 %, µs']
    return table([*heads, 'CPU a message, µs'], rows)


def idle_table(results: Results) -> list[str]:
    rows = []
    for name in reversed(ordered(results, 'bytes')):
        (result,) = results[name]
        own = pick(results.get(SUBJECT, []), 'bytes')
        ratio = f'{result["bytes"] / own[0]:.2f}' if own and own[0] else ''
        rows.append(
            [
                SERVERS[name].title,
                f'{result["clients"]:,}',
                f'{result["bytes"]:,.0f}',
                ratio,
            ]
        )
    heads = ['server', 'clients', 'bytes a client', 'times those of twspy']
    return table(heads, rows)


def client_table(results: Results) -> list[str]:
    rows = [
        [
            CLIENTS[name].title,
            spread(pick(results[name], 'rate'), ',.0f'),
            against(results, name, 'rate'),
            busy(results[name], 'load_cpu'),
        ]
        for name in ordered(results, 'rate')
    ]
    heads = ['client', 'round trips/s', 'twspy.websocket against it']
    return table([*heads, 'client core busy'], rows)


def section(name: str, record: Record) -> list[str]:
    results = record.results
    if name in CELLS:
        cell = CELLS[name]
        lines = [f'### {cell.title[0].upper()}{cell.title[1:]}', '']
        if not results:
            lines.append('Nothing could be measured.')
        elif cell.how == 'idle':
            lines += idle_table(results)
        elif cell.how == 'rate':
            lines += latency_table(results)
        else:
            lines += echo_table(cell, results)
        titles = {key: peer.title for key, peer in SERVERS.items()}
    else:
        size, tls = CLIENT_CELLS[name]
        title = f'Round trips of {size:,} B{", TLS" if tls else ""}'
        lines = [f'### {title}', '', *client_table(results)]
        titles = {key: peer.title for key, peer in CLIENTS.items()}
    if record.failed:
        lines.append('')
    for peer, reason in record.failed.items():
        text = html.escape(' '.join(reason.split())[:300], quote=False)
        lines.append(f'- **{titles[peer]}** failed: {text}')
    return [*lines, '']


# The whole -------------------------------------------------------------------


def both_ratios(results: Results, peer: str, counter: str) -> str:
    """Times as many a second / times less processor time; '' if not there."""
    if peer not in results:
        return ''
    pairs = zip(
        cpu_each(results[peer], counter),
        cpu_each(results[SUBJECT], counter),
        strict=False,
    )
    cpu = middle([theirs / ours for theirs, ours in pairs if ours], '.2f')
    return f'{against(results, peer, "rate")} / {cpu}'


def summary(records: dict[str, Record]) -> list[str]:
    """One row for each cell: messages a second, and CPU, as ratios."""
    rows = []
    for name, record in records.items():
        if name not in CELLS or CELLS[name].how in ('rate', 'idle'):
            continue
        results = record.results
        if SUBJECT not in results:
            continue
        counter = 'handshakes' if CELLS[name].how == 'churn' else 'messages'
        rows.append(
            [
                CELLS[name].title,
                middle(pick(results[SUBJECT], 'rate'), ',.0f'),
                *(
                    both_ratios(results, peer, counter)
                    for peer in (LIMIT, 'uws', 'picows', 'websockets')
                ),
            ]
        )
    if not rows:
        return []
    heads = ['cell', 'twspy, a second', 'bare C loop', 'uWebSockets']
    return [
        '## Summary',
        '',
        'twspy against others: times as many a second / times less processor '
        'time of the server for each.',
        '',
        *table([*heads, 'picows', 'websockets'], rows),
        '',
    ]


def render(
    records: dict[str, Record],
    setting: list[str],
    missing: dict[str, str],
    chart: str | None,
) -> str:
    lines = ['# Measurements', '']
    lines += [*setting, '']
    if missing:
        lines += ['Not measured, as they could not be installed:', '']
        lines += [
            f'- **{title}**: {reason}' for title, reason in missing.items()
        ]
        lines.append('')
    if chart:
        lines += [f'![Messages a second]({chart})', '']
    lines += summary(records)
    servers = [name for name in records if name in CELLS]
    clients = [name for name in records if name not in CELLS]
    for title, names in (('Servers', servers), ('Clients', clients)):
        if names:
            lines += [f'## {title}', '']
        for name in names:
            lines += section(name, records[name])
    return '\n'.join(lines).rstrip() + '\n'
