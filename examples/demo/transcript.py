"""What the person at the terminal reads."""

import sys
from operator import itemgetter
from pathlib import Path

from .scene import Answer, Outcome, SignedIn
from .stage import Stage


def started(name: str, address: str, seconds: float) -> None:
    print(f"  {name:<9} {address}   ready in {seconds:.1f} s", flush=True)


def signed_in(everyone: list[SignedIn]) -> None:
    _headline("Alice signs in to the shop, from two browsers")
    for one in everyone:
        print(f"  {one.name:<7} GET /me -> 200   session {one.sid}", flush=True)


def outcome(what: Outcome, ended: SignedIn, neighbour: SignedIn) -> None:
    """The lines in the order in which the things happened; what never happened comes last."""
    happened = [
        (what.sent, "provider   sends its logout token", ""),
        (what.received, "receiver   has the token", ""),
        (what.written, f"Redis      marker {what.marker}", f", cutoff {what.cutoff}"),
        (what.answered, "receiver   answers the provider", f": {what.status}"),
        (what.ended.at, *_me(ended, what.ended)),
        (what.neighbour.at, *_me(neighbour, what.neighbour)),
    ]
    _headline(f"On her {neighbour.name}, she ends the {ended.name}'s session at the provider")
    print('      0 ms  click on "End session"')
    did = [(at, event + detail) for at, event, detail in happened if at is not None]
    # By time; where that is the same, in the order above.
    for moment, line in sorted(did, key=itemgetter(0)):
        print(f"  {moment:5d} ms  {line}")
    for event in (event for at, event, _ in happened if at is None):
        print(f"     never  {event}")
    print(flush=True)


def verdict(what: Outcome, ended: SignedIn, neighbour: SignedIn) -> None:
    if not what.faults:
        print(f"As it should be: the {ended.name}'s session is dead, the {neighbour.name}'s lives.")
    for fault in what.faults:
        print(f"WRONG: {fault}")


def invitation(stage: Stage) -> None:
    """What to do by hand, while everything stays up."""
    admin = f"http://127.0.0.1:{stage.ports.admin}"
    command, config = f"{_here(sys.executable)} -m app", f"--config {stage.receiver_file}"
    _headline("Now you")
    print(
        f"""\
  1. Open {stage.shop_url} in two browsers (a private window is another one),
     and sign in as Bob in both.
  2. In one of them, open {stage.shop_url}/sessions and sign out the other.
  3. Reload the shop in both.

  Or end all of Bob's sessions through the provider's API, which is shaped like Auth0's:
  curl -X DELETE -H 'Authorization: Bearer {stage.api_token}' \\
    {stage.provider_url}/api/v2/users/demo%7Cbob/sessions

  What the receiver knows of it, in its console:
  {admin}/console   token: {stage.admin_token}

  And by its commands, in another terminal:
  {command} status {config}
  {command} story --sub 'demo|bob' {config}
  {command} watch {config}

  Health:  {admin}/readyz
  Redis:   {stage.redis_url}
  Logs:    {stage.receiver.log_path.parent}

Ctrl-C ends everything and leaves nothing behind.""",
        flush=True,
    )


def _here(path: str) -> str:
    """The path, shorter where it is below the working directory."""
    place = Path.cwd()
    return str(Path(path).relative_to(place)) if Path(path).is_relative_to(place) else path


def _me(who: SignedIn, answer: Answer) -> tuple[str, str]:
    state = "alive" if answer.is_alive else "dead" if answer.is_dead else answer.error
    return f"{who.name:<10} GET /me", f" -> {answer.status}, {state}"


def _headline(text: str) -> None:
    print(f"\n{text}\n", flush=True)
