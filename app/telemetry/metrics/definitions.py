"""Every metric of ``/metrics``: its name, its meaning, its labels and their values. Pure.

No label holds anything of a token that the settings do not name, so a flood adds no series.
docs/metrics.md is the same table for people; a test compares the two.

Counters and histograms, and the canary's gauge, are counted where the event happens (`registry`,
`counters`). Every other gauge is read at each scrape (`app.admin.gauges`).
"""

from app.publish.writer import Written
from app.telemetry.canary_outcome import CanaryOutcome
from app.telemetry.metrics.series import (
    NOTHING,
    Labels,
    Metric,
    answered_tokens,
    each,
    per_app,
    per_issuer,
    per_issuer_if_few,
    single,
    with_canary,
)
from backchannel_logout.contract.receipts import Outcome

__all__ = ["ALL", "NOTHING", "Labels", "Metric"]

# Within the process: a verification takes a tenth of a millisecond, and 1.8 s is the whole budget.
_FAST = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 1.8)

# From one clock to another, in whole seconds on one side; up to what journal and parking keep.
_SLOW = (0.25, 0.5, 1.0, 1.5, 2.0, 3.0, 5.0, 10.0, 30.0, 60.0, 300.0, 600.0, 3600.0, 86400.0)

# -- tokens ----------------------------------------------------------------------------------

TOKENS = Metric(
    "bcl_tokens_total", "counter",
    "Logout tokens answered, by what became of them; a token for several clients counts for the "
    "first of them",
    ("issuer", "client", "outcome", "reason"), series=answered_tokens,
)  # fmt: skip
STAGES = Metric(
    "bcl_stage_duration_seconds", "histogram",
    "Time in one stage of a valid token: verify (body, keys, signature, claims) or store (Redis or "
    "the journal)",
    ("stage",), series=each("verify", "store"), buckets=_FAST,
)  # fmt: skip
ANSWERS = Metric(
    "bcl_answer_duration_seconds", "histogram",
    "Time from a request's body to its answer, whatever that was",
    series=single, buckets=_FAST,
)  # fmt: skip
TO_MARKER = Metric(
    "bcl_token_to_marker_seconds", "histogram",
    "Time from iat, which counts whole seconds, to the marker in Redis; also through journal and "
    "parking",
    ("issuer",), series=per_issuer_if_few(), buckets=_SLOW,
)  # fmt: skip
MARKERS = Metric(
    "bcl_markers_written_total", "counter",
    "Revocations written to Redis, by whether a marker was new or there before",
    ("app", "marker"), series=per_app("new", "known"),
)  # fmt: skip
CLOCK = Metric(
    "bcl_clock_difference_seconds", "gauge",
    "Median time from iat to arrival of the last nine tokens, of three at least, in the last hour: "
    "negative, the provider's clock is ahead; large, it is behind, or its tokens come late",
    ("issuer",),
)  # fmt: skip
IN_FLIGHT = Metric("bcl_in_flight_tokens", "gauge", "Tokens at work now")
IN_FLIGHT_MOST = Metric("bcl_in_flight_limit", "gauge", "Tokens that may be at work at once")
CONNECTIONS = Metric("bcl_connections", "gauge", "Open connections of providers")
CONNECTIONS_MOST = Metric("bcl_connections_limit", "gauge", "Connections that may be open at once")
MADE_ROOM = Metric(
    "bcl_connections_shed_total", "counter",
    "Connections closed to make room for newer ones", series=single,
)  # fmt: skip

# -- what waits ------------------------------------------------------------------------------

JOURNAL = Metric(
    "bcl_journal_entries", "gauge",
    "Revocations in the journal: waiting for Redis, or set_aside because Redis refuses them",
    ("state",),
)  # fmt: skip
JOURNAL_OLDEST = Metric(
    "bcl_journal_oldest_seconds", "gauge",
    "How long the oldest waiting entry of the journal has been there; 0 where none waits",
)  # fmt: skip
JOURNAL_BYTES = Metric("bcl_journal_bytes", "gauge", "Size of the journal's records")
JOURNAL_MOST = Metric("bcl_journal_limit_bytes", "gauge", "Size at which the journal is full")
JOURNAL_WRITABLE = Metric("bcl_journal_writable", "gauge", "Whether the journal takes entries")
JOURNAL_DAMAGED = Metric(
    "bcl_journal_damaged_files", "gauge",
    "Files of the journal that were damaged, until they are removed, or that were missing at the "
    "start: acknowledged logouts in them may be lost",
)  # fmt: skip
PARKED = Metric(
    "bcl_parked_tokens",
    "gauge",
    "Tokens that wait in memory for a key of their issuer",
    ("issuer",),
)
PARKED_OLDEST = Metric(
    "bcl_parked_oldest_seconds", "gauge",
    "How long the oldest parked token has waited; after 600 it is given up",
    ("issuer",),
)  # fmt: skip
PARKED_BYTES = Metric("bcl_parked_bytes", "gauge", "Memory of parked tokens", ("issuer",))
SETTLED = Metric(
    "bcl_parked_settled_total", "counter",
    "Parked tokens by what became of them; they were answered 503, and are not counted again "
    "under bcl_tokens_total",
    ("issuer", "outcome"), series=per_issuer(*Written, "refused", "failed", "given_up"),
)  # fmt: skip
TURNED_AWAY = Metric(
    "bcl_parked_turned_away_total", "counter",
    "Tokens that got no place to wait, or lost it: all were taken, or it was too large",
    ("issuer",), series=per_issuer(),
)  # fmt: skip

REFUSALS = Metric(
    "bcl_refusals_total", "counter",
    "Refusals told of in the stream bcl:v1:refused: kept there, or left out",
    ("outcome",), series=each("kept", "left_out"),
)  # fmt: skip
LOG_LINES = Metric(
    "bcl_log_lines_dropped_total", "counter",
    "Lines that are not in the log: unread, because standard error took no more, or limited, "
    "because too many refusals came",
    ("cause",), series=each("unread", "limited"),
)  # fmt: skip

# -- providers -------------------------------------------------------------------------------

JWKS_AGE = Metric(
    "bcl_jwks_age_seconds", "gauge",
    "Time since the fetch that brought the issuer's keys; absent while there are none",
    ("issuer",),
)  # fmt: skip
JWKS_KEYS = Metric("bcl_jwks_keys", "gauge", "Keys of the issuer that can be used", ("issuer",))
JWKS_STALE = Metric(
    "bcl_jwks_max_stale_seconds", "gauge",
    "Age from which on the issuer's keys are not used any more (jwks_max_stale)",
    ("issuer",),
)  # fmt: skip
JWKS_FETCHES = Metric(
    "bcl_jwks_fetches_total", "counter",
    "Fetches of the issuer's keys that have ended: good or failed",
    ("issuer", "outcome"), series=per_issuer("good", "failed"),
)  # fmt: skip
LAST_LOGOUT = Metric(
    "bcl_issuer_last_logout_timestamp_seconds", "gauge",
    "When the last logout of the issuer was written to Redis, by any receiver",
    ("issuer",),
)  # fmt: skip
LONGEST_GAP = Metric(
    "bcl_issuer_longest_gap_seconds", "gauge",
    "Longest time between two logouts of the issuer in the last seven days; absent until a day of "
    "them is known",
    ("issuer",),
)  # fmt: skip

# -- Redis -----------------------------------------------------------------------------------

REDIS_WRITABLE = Metric(
    "bcl_redis_writable", "gauge",
    "Whether this primary of Redis took a write when it was asked last, a second ago",
    ("server",),
)  # fmt: skip
REDIS_RISK = Metric(
    "bcl_redis_risk", "gauge",
    "Whether this primary can lose or refuse a marker, by why: its role, persistence, eviction, "
    "memory or replication",
    ("server", "risk"),
)  # fmt: skip
REDIS_DURABLE = Metric(
    "bcl_redis_durability_reached", "gauge",
    "Whether the last write reached the level of durability of the settings",
)  # fmt: skip
REDIS_USED = Metric(
    "bcl_redis_memory_used_bytes", "gauge", "used_memory of this primary", ("server",)
)
REDIS_MOST = Metric(
    "bcl_redis_memory_limit_bytes", "gauge",
    "maxmemory of this primary; 0: none is set",
    ("server",),
)  # fmt: skip
REDIS_RATIO = Metric(
    "bcl_redis_memory_ratio", "gauge",
    "used_memory of this primary as a share of maxmemory; absent where none is set",
    ("server",),
)  # fmt: skip
REDIS_EVICTED = Metric(
    "bcl_redis_evicted_keys", "gauge",
    "Keys that this primary has evicted since its start: markers may be among them",
    ("server",),
)  # fmt: skip
RECOVERED = Metric(
    "bcl_recovered_revocations_total", "counter",
    "Revocations that Redis had lost after it had acknowledged them, and that were written again",
    series=single,
)  # fmt: skip
RELOADS = Metric(
    "bcl_reload_total", "counter",
    "Readings of the settings after the start, by what became of them",
    ("outcome",), series=each("applied", "unchanged", "refused"),
)  # fmt: skip
TENANT_REFUSED = Metric(
    "bcl_tenant_refused", "gauge",
    "Always 1: a tenant's file that has a fault and was refused",
    ("tenant",),
)  # fmt: skip
EMPTIED = Metric(
    "bcl_redis_emptied_total", "counter",
    "Times that Redis came back without what was written to it; what the copy does not reach is "
    "lost",
    series=single,
)  # fmt: skip
COPY_REACH = Metric(
    "bcl_copy_reach_seconds", "gauge",
    "How far the copy of acknowledged logouts reaches back; what an empty Redis lost before that "
    "is lost for good",
)  # fmt: skip
COPY_WRITABLE = Metric(
    "bcl_copy_writable", "gauge",
    "Whether the copy takes acknowledged logouts; 0: what Redis loses now is lost for good",
)  # fmt: skip

# -- relying apps, as Redis shows them -------------------------------------------------------

APP_EVENTS = Metric("bcl_app_events", "gauge", "Entries of the app's event stream", ("app",))
APP_READERS = Metric(
    "bcl_app_readers", "gauge",
    "Processes of the app that have reported within a minute how far they have read; of kind asks:"
    " 1 where the app has asked Redis within seven days",
    ("app", "kind"),
)  # fmt: skip
APP_REPORT = Metric(
    "bcl_app_last_report_timestamp_seconds", "gauge",
    "When a process of the app has last reported; absent where none ever has",
    ("app",),
)  # fmt: skip
APP_UNSERVED = Metric(
    "bcl_app_unserved", "gauge",
    "Always 1: an app that Redis holds and no client of the settings leads to, whose meta no "
    "receiver has renewed for three minutes",
    ("app",),
)  # fmt: skip
APP_WRITABLE = Metric(
    "bcl_app_writable", "gauge",
    "0: this app's logouts are not written (NOPERM, WRONGTYPE, QUOTA) while others' are; absent "
    "for every other app, and beyond the first hundred",
    ("app",),
)  # fmt: skip
AGE_CONFLICT = Metric(
    "bcl_max_session_age_conflict", "gauge",
    "Apps that another receiver on this Redis serves with a larger max_session_age, which is in "
    "force",
)  # fmt: skip
APP_LAG = Metric(
    "bcl_app_group_lag_events", "gauge",
    "Events that the slowest consumer group of the app has not fetched yet",
    ("app",),
)  # fmt: skip
APP_PENDING = Metric(
    "bcl_app_group_pending_events", "gauge",
    "Events that consumer groups of the app have fetched and not yet acknowledged",
    ("app",),
)  # fmt: skip
APP_DEAD = Metric(
    "bcl_app_dead_letters", "gauge",
    "Events that no handler of the app could take",
    ("app",),
)  # fmt: skip
APP_BYTES = Metric(
    "bcl_app_memory_bytes", "gauge",
    "Memory in Redis of the app's event stream with its groups, of what the app has written to "
    "readers, receipts and dead letters, and of its other keys; large ones are estimated",
    ("app", "part"),
)  # fmt: skip
APP_UNREAD = Metric(
    "bcl_app_unread", "gauge",
    "Whether the app has written so much that it is not read; then the rest about it is missing",
    ("app",),
)  # fmt: skip
APP_RECEIPTS = Metric(
    "bcl_app_receipts_total", "counter",
    "Receipts of the app's listeners; counted by the receiver that reads for all",
    ("app", "outcome"), series=per_app(*Outcome),
)  # fmt: skip
TEARDOWN = Metric(
    "bcl_app_teardown_seconds", "histogram",
    "Time from a logout's arrival to the end of the app's sessions, by receipts; counted by "
    "the receiver that reads for all",
    ("app",), series=per_app(), buckets=(*_FAST[4:-1], 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 3600.0),
)  # fmt: skip
APP_READ = Metric(
    "bcl_app_reading_age_seconds", "gauge",
    "How old what /metrics says of the app is; above 60, or two rounds, the rest is left out",
    ("app",),
)  # fmt: skip

# -- the canary, where there is one ----------------------------------------------------------

CANARY_TRIES = Metric(
    "bcl_canary_tries_total", "counter",
    "Tries of the canary, by what became of its session; only with [canary]",
    ("outcome",), series=with_canary(each(*CanaryOutcome)),
)  # fmt: skip
CANARY_ROW = Metric(
    "bcl_canary_failures_in_a_row", "gauge",
    "Tries of the canary that have failed since the last that went well; only with [canary]",
    series=with_canary(single),
)  # fmt: skip
CANARY_SECONDS = Metric(
    "bcl_canary_duration_seconds", "histogram",
    "Time from the sending of the canary's token to one stage: answer, marker (in Redis) or "
    "receipt (of its listener); only with [canary]",
    ("stage",), series=with_canary(each("answer", "marker", "receipt")),
    buckets=(*_FAST[4:-1], 2.5, 5.0, 10.0, 30.0, 60.0),
)  # fmt: skip

# -- the service -----------------------------------------------------------------------------

READY = Metric("bcl_ready", "gauge", "Whether /readyz says ready")
BUILD = Metric("bcl_build_info", "gauge", "Always 1; the version of the receiver", ("version",))

ALL: dict[str, Metric] = {
    value.name: value for value in list(globals().values()) if isinstance(value, Metric)
}
"""Each by its name."""
