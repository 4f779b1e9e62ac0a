"""A relying app with the redis-py that is first on its path; see `test_redis_py`.

    redis_py_app.py <app> <URL of its guards> <URL of its listeners>

Prints `ready` once the guards have cached that both sessions are alive, and `dead` when every guard
has seen the end of one, each listener has the event, and the neighbour is alive.
"""

import asyncio
import sys
import time

import redis

from backchannel_logout import AsyncListener, AsyncSessionGuard, Session, SessionGuard

ISS = "https://op.example"
NOW = int(time.time())
ALICE = Session(ISS, NOW - 10, sid="s1", sub="alice")
BOTH = [ALICE, Session(ISS, NOW - 10, sid="s2", sub="bob")]


async def wait_until(holds):
    deadline = time.monotonic() + 60
    while not await holds():
        assert time.monotonic() < deadline, f"in a minute not true: {holds.__name__}"
        await asyncio.sleep(0.01)


async def nothing(_):
    """Ignore a gap."""


class Guards:
    """For asyncio and threads, with and without a near cache."""

    def __init__(self, app, url):
        options = {"app": app, "timeout": 30}
        self.tasks = [AsyncSessionGuard(url, near_cache=near, **options) for near in (True, False)]
        self.threads = [SessionGuard(url, near_cache=near, **options) for near in (True, False)]

    async def dead(self):
        found = [await guard.which_revoked(BOTH) for guard in self.tasks]
        return found + [await asyncio.to_thread(one.which_revoked, BOTH) for one in self.threads]

    async def keep_both(self):
        assert await self.dead() == [[]] * 4
        caches = (self.tasks[0]._near.cache, self.threads[0]._near.cache)
        return all(cache.alive(session) for cache in caches for session in BOTH)

    async def know_of_the_end(self):
        return await self.dead() == [[ALICE]] * 4

    async def close(self):
        for guard in self.tasks:
            await guard.aclose()
        for guard in self.threads:
            guard.close()


class Listeners:
    """In group and in broadcast mode."""

    def __init__(self, app, url):
        self.listeners = [AsyncListener(url, app=app, mode=mode) for mode in ("group", "broadcast")]
        self.handed = set()
        self.tasks = [asyncio.create_task(self.run(one)) for one in self.listeners]

    async def run(self, listener):
        async def handle(event):
            if event.sid == "s1":
                self.handed.add(listener)

        await listener.run(handle, on_gap=nothing)

    async def were_handed_it(self):
        for task in self.tasks:
            assert not task.done(), task
        return self.handed == set(self.listeners)

    async def close(self):
        for listener in self.listeners:
            await listener.aclose()


async def main(app, guard_url, listener_url):
    guards, listeners = Guards(app, guard_url), Listeners(app, listener_url)
    await wait_until(guards.keep_both)
    print("ready", redis.__version__, flush=True)
    await wait_until(guards.know_of_the_end)
    await wait_until(listeners.were_handed_it)
    await listeners.close()
    await guards.close()
    print("dead", flush=True)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
