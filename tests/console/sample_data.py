"""A receiver to whom everything has happened once."""

from backchannel_logout import AppKeys, Outcome, Receipt
from tests.admin.api_fixture import ApiScene
from tests.support.receiver import wait_for


def add_receipt(scene: ApiScene, app: str, entry: str, seconds: float) -> None:
    """What a listener says when it has handled an event."""
    receipt = Receipt(
        event=entry, listener="web", reader="web-1", seconds=seconds, outcome=Outcome.DONE
    )
    scene.redis.xadd(AppKeys(app).receipts, receipt.to_fields())


def fill(scene: ApiScene) -> None:
    """Something of everything: logouts, refusals, receipts, a dead letter, sessions."""
    keys = AppKeys("shop")
    if scene.redis.xlen(keys.receipts):
        return
    assert scene.receiver.post(scene.keys.token()).status_code == 200
    assert scene.receiver.post(scene.keys.token(aud="shop-web-2")).status_code == 400
    assert scene.receiver.post(scene.keys.token(iss="https://other.example/")).status_code == 400
    assert scene.receiver.post(scene.keys.token(exp=100)).status_code == 400
    entry = scene.redis.xrevrange(keys.events, count=1)[0][0]
    for n in range(30):
        add_receipt(scene, "shop", entry, 0.05 + n % 7 / 20)
    wait_for(lambda: scene.redis.xlen("bcl:v1:refused") >= 3, "refusals are written")
