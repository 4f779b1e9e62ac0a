"""``python -m examples.demo_provider FILE``: the provider as a process of its own."""

import argparse
import asyncio
import contextlib
import sys
from pathlib import Path

import anyio.lowlevel
import httpx
import uvicorn

from .app import create_app
from .config import Config, ConfigFault, load
from .tokens import new_key


async def serve(config: Config) -> None:
    """Serve until SIGTERM or SIGINT."""
    # Loads what httpx and Starlette else load at their first request: some 50 ms, while a user
    # waits for a logout.
    await anyio.lowlevel.checkpoint()
    async with httpx.AsyncClient() as http:
        server = uvicorn.Server(
            uvicorn.Config(
                create_app(config, new_key(), http),
                host=config.host,
                port=config.port,
                access_log=False,  # it would hold the codes
                timeout_graceful_shutdown=5,
            )
        )
        await server.serve()


def main() -> int:
    parser = argparse.ArgumentParser(description="A demonstration OpenID provider on loopback.")
    parser.add_argument(
        "file", type=Path, help="TOML: port, api_token, [[clients]] (see config.py)"
    )
    try:
        config = load(parser.parse_args().file)
    except ConfigFault as fault:
        print(f"can not start: {fault}", file=sys.stderr)
        return 1
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(serve(config))
    return 0


if __name__ == "__main__":
    sys.exit(main())
