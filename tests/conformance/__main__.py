"""``python -m tests.conformance URL``: see docs/conformance.md."""

import argparse
import sys
from pathlib import Path

from tests.conformance import report
from tests.conformance.run import publish_another_key, run, wait_until_configured
from tests.support.providers.provider import Provider


def main() -> int:
    """Returns the exit status: 1 if a mandatory rule fails."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.conformance",
        description="Runs the cases of OpenID Connect Back-Channel Logout against a receiver.",
    )
    parser.add_argument("target", help="the receiver's back-channel logout URL")
    parser.add_argument("--bind", default="127.0.0.1", help="the provider's address")
    parser.add_argument("--port", type=int, default=0, help="its port; 0: a free one")
    parser.add_argument("--issuer", help="the provider's URL for the receiver, if different")
    parser.add_argument("--client-id", default="shop-web", help="the client id of the receiver")
    parser.add_argument("--wait", type=float, default=60, help="seconds to wait for the receiver")
    parser.add_argument("--report", type=Path, default=Path("dist/conformance.md"))
    arguments = parser.parse_args()
    with Provider(address=(arguments.bind, arguments.port)) as provider:
        if arguments.issuer:
            provider.issuer = provider.origin = arguments.issuer.rstrip("/")
        provider.client_id = arguments.client_id
        publish_another_key(provider)
        print(
            f"Configure the receiver with issuer {provider.issuer}, client id "
            f"{provider.client_id}, alg RS256; it fetches\n"
            f"{provider.issuer}/.well-known/openid-configuration. "
            f"Waiting {arguments.wait:g} s for it.",
            flush=True,
        )
        if not wait_until_configured(arguments.target, provider, arguments.wait):
            print("It accepts no valid token, so the results below mean little.")
        results = []
        for result in run(arguments.target, provider):
            print(report.line(result), flush=True)
            results.append(result)
    arguments.report.parent.mkdir(parents=True, exist_ok=True)
    arguments.report.write_text(report.markdown(results, arguments.target))
    print(f"\n{report.summary(results)}\nThe table is in {arguments.report}")
    return int(any(result.failed for result in results))


if __name__ == "__main__":
    sys.exit(main())
