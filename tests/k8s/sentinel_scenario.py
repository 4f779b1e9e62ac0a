"""The sentinel overlay works, loses its primary, gets it back, and loses all members at once.

``python -m tests.k8s.sentinel_scenario DIRECTORY`` in a network of its own. No logout that was
answered 200 is lost on the way.
"""

import subprocess
import sys
import uuid
from pathlib import Path

from backchannel_logout.contract.keys import AppKeys
from tests.k8s.sentinel_members import OVERLAY, Member, until_settled
from tests.support.providers.provider import Provider
from tests.support.receiver import Receiver, config, wait_for


def main() -> None:
    directory = Path(sys.argv[1])
    subprocess.run([str(OVERLAY / "generate-secrets"), str(directory / "secrets")], check=True)
    members = [Member(directory, n, directory / "secrets/auth") for n in range(3)]
    url = (directory / "secrets/url").read_text()
    with Provider() as provider:
        receiver = Receiver(directory / "receiver", config(url, f'issuer = "{provider.issuer}"'))
        try:
            play(members, receiver, provider)
        finally:
            receiver.stop()
            for member in members:
                member.kill()


def play(members: list[Member], receiver: Receiver, provider: Provider) -> None:
    accepted: list[str] = []

    def log_out(count: int) -> None:
        for _ in range(count):
            sid = uuid.uuid4().hex
            answer = receiver.post(provider.token(sid=sid))
            assert answer.status_code == 200, (answer.text, receiver.log)
            accepted.append(AppKeys("shop").sid(provider.issuer, sid))

    def nothing_is_lost(primary: Member) -> None:
        with primary.client() as client:
            wait_for(lambda: client.exists(*accepted) == len(accepted), "every marker is there")

    for member in members:
        print(member.start(), end="")
    primary = until_settled(members)
    assert primary is members[0], "the very first start"
    receiver.start()
    log_out(20)
    nothing_is_lost(primary)
    print("first start: one primary, two replicas, 20 logouts")

    primary.kill()
    log_out(20)  # by the journal
    others = [member for member in members if member is not primary]
    wait_for(lambda: any(member.role() == "master" for member in others), "a failover")
    second = next(member for member in others if member.role() == "master")
    log_out(20)
    print(primary.start(), end="")
    assert until_settled(members) is second, "the returning member is a replica"
    nothing_is_lost(second)
    print("lost its primary: another took over, 60 logouts")

    for member in members:
        member.kill()
    log_out(20)
    for member in members:
        said = member.start()
        assert second.name in said.split("primary ")[1], said
    assert until_settled(members) is second, "the last primary, and not member 0"
    log_out(20)
    nothing_is_lost(second)
    print(f"lost everybody: the last primary came back, {len(accepted)} logouts, none lost")


if __name__ == "__main__":
    main()
