"""``python -m tests.conformance URL``: see docs/conformance.md."""

import argparse
import sys
from pathlib import Path

from tests.conformance import report
from tests.conformance.run import publish_another_key, run, wait_until_configured
from tests.support.provider import Provider


def main() -> int:
    """Exit status 0: every rule that binds holds. 1: one does not."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.conformance",
        description="Runs the cases of OpenID Connect Back-Channel Logout against a receiver.",
    )
    parser.add_argument("target", help="the receiver's back-channel logout URL")
    parser.add_argument("--bind", default="127.0.0.1", help="where the provider listens")
    parser.add_argument("--port", type=int, default=0, help="its port; 0: a free one")
    parser.add_argument("--issuer", help="its name to the receiver, where that is another URL")
    parser.add_argument("--client-id", default="shop-web", help="the client id of the receiver")
    parser.add_argument("--wait", type=float, default=60, help="seconds, until it is configured")
    parser.add_argument("--report", type=Path, default=Path("dist/conformance.md"))
    asked = parser.parse_args()
    with Provider(address=(asked.bind, asked.port)) as provider:
        if asked.issuer:
            provider.issuer = provider.origin = asked.issuer.rstrip("/")
        provider.client_id = asked.client_id
        publish_another_key(provider)
        print(
            f"Configure the receiver with issuer {provider.issuer}, client id "
            f"{provider.client_id}, alg RS256; it fetches\n"
            f"{provider.issuer}/.well-known/openid-configuration. Waiting {asked.wait:g} s for it.",
            flush=True,
        )
        if not wait_until_configured(asked.target, provider, asked.wait):
            print("It takes no good token. What follows is of little worth.")
        results = []
        for result in run(asked.target, provider):
            print(report.line(result), flush=True)
            results.append(result)
    asked.report.parent.mkdir(parents=True, exist_ok=True)
    asked.report.write_text(report.markdown(results, asked.target))
    print(f"\n{report.summary(results)}\nThe table is in {asked.report}")
    return int(any(result.failed for result in results))


if __name__ == "__main__":
    sys.exit(main())
