"""A receiver with one example of everything."""

from backchannel_logout import AppKeys, Outcome, Receipt
from tests.admin.api_fixture import AdminClient
from tests.support.receiver import wait_for


def add_receipt(admin: AdminClient, app: str, entry: str, seconds: float) -> None:
    """What a listener says when it has handled an event."""
    receipt = Receipt(
        event=entry, listener="web", reader="web-1", seconds=seconds, outcome=Outcome.DONE
    )
    admin.redis.xadd(AppKeys(app).receipts, receipt.to_fields())


def fill(admin: AdminClient) -> None:
    """Something of everything: logouts, refusals, receipts, a dead letter, sessions."""
    keys = AppKeys("shop")
    if admin.redis.xlen(keys.receipts):
        return
    assert admin.receiver.post(admin.keys.token()).status_code == 200
    assert admin.receiver.post(admin.keys.token(aud="shop-web-2")).status_code == 400
    assert admin.receiver.post(admin.keys.token(iss="https://other.example/")).status_code == 400
    assert admin.receiver.post(admin.keys.token(exp=100)).status_code == 400
    entry = admin.redis.xrevrange(keys.events, count=1)[0][0]
    for n in range(30):
        add_receipt(admin, "shop", entry, 0.05 + n % 7 / 20)
    wait_for(lambda: admin.redis.xlen("bcl:v1:refused") >= 3, "refusals are written")
