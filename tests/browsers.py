"""How the tests start a browser."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from playwright.sync_api import BrowserContext, sync_playwright

ARGUMENTS = [
    '--headless=new',
    '--no-sandbox',
    '--disable-gpu',
    '--no-first-run',
    '--disable-background-networking',
    '--disable-component-update',
    '--disable-sync',
]


@contextmanager
def launch(
    executable: str, profile: Path, **options: Any
) -> Iterator[BrowserContext]:
    """A browser of its own, with an empty profile.

    options: those of Playwright's `launch_persistent_context()`
    """
    with sync_playwright() as playwright:
        context = playwright.chromium.launch_persistent_context(
            profile,
            executable_path=executable,
            args=ARGUMENTS,
            headless=True,
            **options,
        )
        context.set_default_timeout(15_000)
        yield context
        context.close()
