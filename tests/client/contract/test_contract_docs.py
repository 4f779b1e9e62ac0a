"""`docs/contract.md`, `contract/asyncapi.json` and the event's schema against the implementation.

For the permissions of the contract's users see `test_contract_rights.py`.
"""

import json
import math
import re
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft7Validator, Draft202012Validator

from app.revocation import Once, revoke
from app.store.store import NEW_MARKER, Store
from app.store.topology import RedisTopology, connect
from backchannel_logout import (
    AppKeys,
    Event,
    EventKind,
    Session,
    digest,
    marker_keys,
)
from backchannel_logout.checker import RevocationChecker
from tests.support.contract import CONTRACT, block
from tests.support.servers.redis_server import RedisServer

ROOT = Path(__file__).parents[3]
VECTORS = json.loads(ROOT.joinpath("contract/vectors.json").read_text("utf-8"))
SCHEMA_PATH = ROOT / "contract/event.schema.json"
SCHEMA = json.loads(SCHEMA_PATH.read_text("utf-8"))
ASYNCAPI_PATH = ROOT / "contract/asyncapi.json"
ASYNCAPI = json.loads(ASYNCAPI_PATH.read_text("utf-8"))
ASYNCAPI_SCHEMA = ROOT / "examples/express/node_modules/@asyncapi/specs/schemas/3.0.0.json"

EVENT = Draft202012Validator(SCHEMA)
FIELDS = Draft202012Validator(ASYNCAPI["components"]["schemas"]["fields"])


def cases(table: list[dict[str, Any]]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("case", table, ids=[case["name"] for case in table])


# -- the schemas of an event ---------------------------------------------------------------


def test_the_schemas_are_schemas() -> None:
    Draft202012Validator.check_schema(SCHEMA)
    Draft202012Validator.check_schema(ASYNCAPI["components"]["schemas"]["fields"])


@cases(VECTORS["events"]["readable"])
def test_the_schemas_accept_readable_events(case: dict[str, Any]) -> None:
    EVENT.validate(json.loads(case["json"]))
    FIELDS.validate(case["fields"])


def parsed(text: str) -> Any:
    """The JSON; None for text that no schema validates: invalid JSON, infinite numbers."""

    def finite(number: str) -> float:
        if not math.isfinite(value := float(number)):
            raise ValueError(number)
        return value

    try:
        return json.loads(text, parse_constant=finite, parse_float=finite)
    except ValueError:
        return None


JSON_REFUSED = [
    case for case in VECTORS["events"]["refused"] if parsed(case.get("json", "")) is not None
]


@cases(JSON_REFUSED)
def test_the_schema_refuses_unreadable_events(case: dict[str, Any]) -> None:
    assert not EVENT.is_valid(parsed(case["json"]))


@cases([case for case in VECTORS["events"]["refused"] if "fields" in case])
def test_the_fields_of_the_stream_are_refused_alike(case: dict[str, Any]) -> None:
    assert not FIELDS.is_valid(case["fields"])


@pytest.mark.parametrize("kind", list(EventKind))
async def test_the_receivers_events_fit_the_schemas(
    kind: EventKind, shared_redis: RedisServer
) -> None:
    app = f"app-{uuid.uuid4().hex[:8]}"
    link, now, keys = RedisTopology(connect(shared_redis.url)), time.time(), AppKeys(app)
    store = Store(link, apps={app: 60}, event_retention=60, event_max_len=10)
    with shared_redis.client() as look, look.pubsub() as feed:
        feed.subscribe(keys.feed)
        assert feed.get_message(timeout=5)
        revocation = revoke(
            app=app, kind=kind, issuer_names=("https://op.example/",), sid="s1", sub="alice",
            since=now, received_at=now, source="backchannel-logout", max_session_age=60,
            leeway=60, client_ids=("shop-web", "bücher"), revoke_offline_access=True,
            once=Once("j1", "s1", "alice", now + 60),
        )  # fmt: skip
        assert await store.write([revocation]) == [NEW_MARKER]
        message = feed.get_message(timeout=5)
        [(entry_id, fields)] = look.xrange(keys.events)
    await link.aclose()
    assert message is not None
    event = json.loads(message["data"])
    EVENT.validate(event)
    FIELDS.validate(fields)
    assert event["id"] == entry_id
    assert event.keys() - {"id"} == fields.keys()
    assert event.keys() <= SCHEMA["properties"].keys()


# -- the AsyncAPI document -----------------------------------------------------------------


def references(node: Any) -> Iterator[str]:
    """Every `$ref` below a node."""
    children = node.values() if isinstance(node, dict) else node if isinstance(node, list) else ()
    if isinstance(node, dict) and "$ref" in node:
        yield node["$ref"]
    for child in children:
        yield from references(child)


def test_every_reference_of_the_asyncapi_document_leads_somewhere() -> None:
    for reference in references(ASYNCAPI):
        path, _, pointer = reference.partition("#")
        target: Any = ASYNCAPI
        if path:
            target = json.loads((ASYNCAPI_PATH.parent / path).read_text("utf-8"))
        for name in pointer.split("/")[1:]:
            target = target[name]
        assert isinstance(target, dict)


def test_the_asyncapi_document_describes_stream_and_channel() -> None:
    assert ASYNCAPI["asyncapi"] == "3.0.0"
    keys = AppKeys("shop")
    addresses = {
        name: channel["address"].replace("{appInBraces}", "{shop}")
        for name, channel in ASYNCAPI["channels"].items()
    }
    assert addresses == {"events": keys.events, "feed": keys.feed}
    listeners = {operation["channel"]["$ref"] for operation in ASYNCAPI["operations"].values()}
    assert listeners == {f"#/channels/{name}" for name in addresses}
    assert {operation["action"] for operation in ASYNCAPI["operations"].values()} == {"receive"}
    payload = ASYNCAPI["components"]["messages"]["event"]["payload"]
    assert (ASYNCAPI_PATH.parent / payload["schema"]["$ref"]).resolve() == SCHEMA_PATH


def test_the_examples_of_the_asyncapi_document_can_be_read() -> None:
    messages = ASYNCAPI["components"]["messages"]
    for example in messages["event"]["examples"]:
        EVENT.validate(example["payload"])
        assert Event.from_json(json.dumps(example["payload"])).app == "shop"
    for example in messages["entry"]["examples"]:
        FIELDS.validate(example["payload"])
        assert Event.from_fields(example["payload"]).app == "shop"


@pytest.mark.interop
def test_the_asyncapi_document_is_valid() -> None:
    """Against the schema that the AsyncAPI initiative publishes."""
    if not ASYNCAPI_SCHEMA.is_file():
        if ASYNCAPI_SCHEMA.parents[3].joinpath(".out-of-reach").exists():
            pytest.skip("registry out of reach: npm")
        pytest.skip("npm packages are not installed; make test-all installs them")
    published = Draft7Validator(json.loads(ASYNCAPI_SCHEMA.read_text("utf-8")))
    assert [error.message for error in published.iter_errors(ASYNCAPI)] == []
    assert not published.is_valid(ASYNCAPI | {"operations": {"readEvents": {"action": "read"}}})


# -- contract.md ---------------------------------------------------------------------------


def test_the_worked_example_is_right() -> None:
    rows = dict(re.split(r"  +", line, maxsplit=1) for line in block("text", "iss").splitlines())
    assert rows["h(iss, sid)"] == digest(rows["iss"], rows["sid"])
    assert rows["h(iss, sub)"] == digest(rows["iss"], rows["sub"])
    assert rows['h(iss, "")'] == digest(rows["iss"], "")
    session = Session(rows["iss"], login_at=0, sid=rows["sid"], sub=rows["sub"])
    commands = [line.split() for line in block("text", "MGET").splitlines()]
    assert commands[0] == ["MGET", *marker_keys(AppKeys("shop"), session)]
    reading = RevocationChecker("shop", "deny", None, lambda: 1795283041)
    question = reading.query([session])
    sent = reading.commands(question, single=False, report=True)
    assert commands == [[*map(str, command)] for command in [("MGET", *question.keys), *sent[1:]]]


def test_the_event_in_the_contract_is_one_and_every_member_is_explained() -> None:
    event = json.loads(block("json"))
    EVENT.validate(event)
    assert Event.from_json(block("json")).members() == {
        name: value for name, value in event.items() if name != "id"
    }
    table = CONTRACT.partition("| member | type | meaning |\n|---|---|---|\n")[2]
    first_cells = [line.split("|")[1] for line in table.partition("\n\n")[0].splitlines()]
    explained = set(re.findall(r"`(\w+)`", "".join(first_cells)))
    assert explained == SCHEMA["properties"].keys()


def test_every_link_of_the_contract_leads_somewhere() -> None:
    links = re.findall(r"\]\(([^)]+)\)", CONTRACT)
    assert len(links) > 3
    headings = re.findall(r"^#+ (.*)$", CONTRACT, re.MULTILINE)
    here = {"#" + re.sub(r"[^\w -]", "", one.lower()).replace(" ", "-") for one in headings}
    lost = [one for one in links if one not in here and not (ROOT / "docs" / one).exists()]
    assert lost == []
