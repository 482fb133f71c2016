"""How long things took: counted by size, so that memory stays small."""

from __future__ import annotations

import math

_STEPS = 16  # buckets in a doubling: each is 4.4 % wide
_WIDTH = 40  # of the longest bar


class Histogram:
    """Counts durations (seconds) in buckets of 4 % each."""

    def __init__(self) -> None:
        self.counts: dict[int, int] = {}
        self.total = 0
        self.longest = 0.0

    def add(self, seconds: float) -> None:
        bucket = math.floor(math.log2(max(seconds, 1e-9)) * _STEPS)
        self.counts[bucket] = self.counts.get(bucket, 0) + 1
        self.total += 1
        self.longest = max(self.longest, seconds)

    def merge(self, other: Histogram) -> None:
        for bucket, count in other.counts.items():
            self.counts[bucket] = self.counts.get(bucket, 0) + count
        self.total += other.total
        self.longest = max(self.longest, other.longest)

    def percentile(self, percent: float) -> float:
        """The duration that so many percent did not exceed."""
        left = self.total * percent / 100
        for bucket in sorted(self.counts):
            left -= self.counts[bucket]
            if left <= 0:
                return min(2 ** ((bucket + 1) / _STEPS), self.longest)
        return self.longest

    def lines(self) -> list[str]:
        """A line for each doubling, with a bar."""
        rows: dict[int, int] = {}
        for bucket, count in self.counts.items():
            row = bucket // _STEPS
            rows[row] = rows.get(row, 0) + count
        if not rows:
            return []
        most = max(rows.values())
        lines = []
        for row in range(min(rows), max(rows) + 1):
            count = rows.get(row, 0)
            bar = '#' * math.ceil(count / most * _WIDTH)
            lines.append(
                f'{duration(2.0**row):>8} to {duration(2.0 ** (row + 1)):>8} '
                f'{count / self.total:6.1%} {bar}'
            )
        return lines


def duration(seconds: float) -> str:
    """With three digits, in a unit that fits."""
    for unit, size in ('s', 1.0), ('ms', 1e-3), ('µs', 1e-6):
        number = seconds / size
        # Where three digits would round up to 1000, the next unit fits.
        if number >= 0.9995 or unit == 'µs':
            break
    return (
        f'{number:.0f} {unit}' if number >= 99.95 else f'{number:.3g} {unit}'
    )
