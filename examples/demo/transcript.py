"""The output in the terminal."""

import sys
from operator import itemgetter
from pathlib import Path

from .scenario import Answer, DemoOutcome, SignedIn
from .services import Services


def started(name: str, address: str, seconds: float) -> None:
    print(f"  {name:<9} {address}   ready in {seconds:.1f} s", flush=True)


def signed_in(users: list[SignedIn]) -> None:
    _headline("Alice signs in to the shop, from two browsers")
    for user in users:
        print(f"  {user.name:<7} GET /me -> 200   session {user.sid}", flush=True)


def outcome(result: DemoOutcome, ended: SignedIn, neighbour: SignedIn) -> None:
    """Prints the events in the order of their times; missing ones come last."""
    happened = [
        (result.sent, "provider   sends its logout token", ""),
        (result.received, "receiver   has the token", ""),
        (result.written, f"Redis      marker {result.marker}", f", cutoff {result.cutoff}"),
        (result.answered, "receiver   answers the provider", f": {result.status}"),
        (result.ended.at, *_me(ended, result.ended)),
        (result.neighbour.at, *_me(neighbour, result.neighbour)),
    ]
    _headline(f"On her {neighbour.name}, she ends the {ended.name}'s session at the provider")
    print('      0 ms  click on "End session"')
    lines = [(at, event + detail) for at, event, detail in happened if at is not None]
    # By time; at the same time, in the order above.
    for moment, line in sorted(lines, key=itemgetter(0)):
        print(f"  {moment:5d} ms  {line}")
    for event in (event for at, event, _ in happened if at is None):
        print(f"     never  {event}")
    print(flush=True)


def verdict(result: DemoOutcome, ended: SignedIn, neighbour: SignedIn) -> None:
    if not result.faults:
        print(f"As expected: the {ended.name}'s session is dead, the {neighbour.name}'s is alive.")
    for fault in result.faults:
        print(f"WRONG: {fault}")


def invitation(services: Services) -> None:
    """Prints what to try while the services run."""
    admin = f"http://127.0.0.1:{services.ports.admin}"
    command, config = f"{_here(sys.executable)} -m app", f"--config {services.receiver_file}"
    _headline("Now you")
    print(
        f"""\
  1. Open {services.shop_url} in two browsers (a private window counts as one),
     and sign in as Bob in both.
  2. In one of them, open {services.shop_url}/sessions and sign out the other.
  3. Reload the shop in both.

  Or end all of Bob's sessions with the provider's API, which is like Auth0's:
  curl -X DELETE -H 'Authorization: Bearer {services.api_token}' \\
    {services.provider_url}/api/v2/users/demo%7Cbob/sessions

  The receiver's console:
  {admin}/console   token: {services.admin_token}

  Its commands, for another terminal:
  {command} status {config}
  {command} story --sub 'demo|bob' {config}
  {command} watch {config}

  Health:  {admin}/readyz
  Redis:   {services.redis_url}
  Logs:    {services.receiver.log_path.parent}

Ctrl-C ends everything and leaves nothing behind.""",
        flush=True,
    )


def _here(path: str) -> str:
    """The path, relative if it is below the working directory."""
    place = Path.cwd()
    return str(Path(path).relative_to(place)) if Path(path).is_relative_to(place) else path


def _me(user: SignedIn, answer: Answer) -> tuple[str, str]:
    state = "alive" if answer.is_alive else "dead" if answer.is_dead else answer.error
    return f"{user.name:<10} GET /me", f" -> {answer.status}, {state}"


def _headline(text: str) -> None:
    print(f"\n{text}\n", flush=True)
