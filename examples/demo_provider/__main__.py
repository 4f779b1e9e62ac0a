"""``python -m examples.demo_provider FILE``: runs the provider."""

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
    """Serves until SIGTERM or SIGINT."""
    # Imports now what httpx and Starlette would import at the first request, for some 50 ms.
    await anyio.lowlevel.checkpoint()
    async with httpx.AsyncClient() as http:
        server = uvicorn.Server(
            uvicorn.Config(
                create_app(config, new_key(), http),
                host=config.host,
                port=config.port,
                access_log=False,  # it would contain the codes
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
        print(f"cannot start: {fault}", file=sys.stderr)
        return 1
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(serve(config))
    return 0


if __name__ == "__main__":
    sys.exit(main())
