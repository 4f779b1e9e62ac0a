"""Fixtures for the examples' tests."""

from collections.abc import AsyncIterator

import pytest

from tests.examples.op import Op


@pytest.fixture
async def op() -> AsyncIterator[Op]:
    running = Op()
    async with running.http:
        yield running
    for browser in running.browsers:
        await browser.aclose()
