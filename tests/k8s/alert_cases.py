"""For each alert: series that make it fire, and similar ones that do not.

In the notation of promtool's unit tests, a value each minute: ``0+1x30`` grows by one for thirty
minutes. Looked at after `AT` unless said otherwise.
"""

from dataclasses import dataclass, field

Series = dict[str, str]

AT = "30m"


@dataclass(frozen=True)
class Case:
    """``fires`` and ``quiet`` each have one set of series, or several."""

    fires: Series | list[Series]
    quiet: Series | list[Series] = field(default_factory=list)
    at: str = AT
    every: str = "1m"
    """The evaluation interval of the rules."""


def of(worlds: Series | list[Series]) -> list[Series]:
    return worlds if isinstance(worlds, list) else [worlds]


def refused(values: str, issuer: str = "op", reason: str = "aud_unknown") -> Series:
    labels = f'issuer="{issuer}",client="-",outcome="refused",reason="{reason}"'
    return {f"bcl_tokens_total{{{labels}}}": values}


def unavailable(values: str, reason: str) -> Series:
    labels = f'issuer="op",client="-",outcome="unavailable",reason="{reason}"'
    return {f"bcl_tokens_total{{{labels}}}": values}


def answered(
    values: str, reason: str = "redis_unavailable", outcome: str = "unavailable"
) -> Series:
    """A hundred logouts a minute that take effect, and others."""
    labels = f'issuer="op",client="-",outcome="{outcome}",reason="{reason}"'
    good = 'bcl_tokens_total{issuer="op",client="shop",outcome="accepted",reason="-"}'
    return {good: "0+100x400", f"bcl_tokens_total{{{labels}}}": values}


def known(values: str) -> Series:
    """Logouts of an issuer of the settings."""
    return {'bcl_tokens_total{issuer="op",client="shop",outcome="accepted",reason="-"}': values}


def to_marker(within: str, all_of_them: str) -> Series:
    name = "bcl_token_to_marker_seconds"
    return {
        f'{name}_bucket{{issuer="op",le="5.0"}}': within,
        f'{name}_bucket{{issuer="op",le="+Inf"}}': all_of_them,
        f'{name}_count{{issuer="op"}}': all_of_them,
    }


def pods(*values: str) -> Series:
    return {f'bcl_ready{{pod="r-{n}"}}': value for n, value in enumerate(values)}


def answers(within: str, beyond: str) -> Series:
    return {
        'bcl_answer_duration_seconds_bucket{le="1.0"}': within,
        'bcl_answer_duration_seconds_bucket{le="1.8"}': beyond,
        'bcl_answer_duration_seconds_bucket{le="+Inf"}': beyond,
    }


def teardown(within: str, beyond: str) -> Series:
    return {
        'bcl_app_teardown_seconds_bucket{app="shop",le="1.0"}': within,
        'bcl_app_teardown_seconds_bucket{app="shop",le="30.0"}': beyond,
        'bcl_app_teardown_seconds_bucket{app="shop",le="+Inf"}': beyond,
    }


def fetches(good: str, failed: str) -> Series:
    return {
        'bcl_jwks_fetches_total{issuer="op",outcome="good"}': good,
        'bcl_jwks_fetches_total{issuer="op",outcome="failed"}': failed,
    }


DAY = 24 * 60
LAST = 'bcl_issuer_last_logout_timestamp_seconds{issuer="op"}'
GAP = 'bcl_issuer_longest_gap_seconds{issuer="op"}'
CLOCK = 'bcl_clock_difference_seconds{issuer="op",pod="%s"}'
CANARY = 'bcl_canary_failures_in_a_row{pod="r-0"}'
UP = 'up{job="backchannel-logout/receiver",pod="r-0"}'

WANTED = 'kube_statefulset_replicas{statefulset="receiver",job="kube-state-metrics"}'
WANTED_STATELESS = 'kube_deployment_spec_replicas{deployment="receiver",job="kube-state-metrics"}'

CASES: dict[str, Case] = {
    "LogoutReceiverDown": Case(
        fires=[pods("1x20 0x20"), pods("1x20 stale"), pods("1x20 stale", "0x40")],
        quiet=[pods("0x60", "1x60"), pods("1x20 stale", "1x60")],
    ),
    "LogoutReceiversMissing": Case(
        fires=[
            pods("1x500", "1x380 stale", "1x380 stale"),
            pods("1x500", "1x500", "1x380 stale") | {WANTED: "3x500"},
            pods("1x500") | {WANTED_STATELESS: "2x500"},
        ],
        quiet=[
            pods("1x500", "1x500", "1x500"),
            pods("0x500", "0x500", "0x500"),
            pods("1x500", "1x500", "1x398 stale"),
            pods("1x500", "1x380 stale", "1x380 stale") | {WANTED: "1x500"},
            pods("1x500", "1x500") | {'kube_statefulset_replicas{statefulset="other"}': "3x500"},
        ],
        at="400m",
    ),
    "LogoutReceiverUnreachable": Case(
        fires=[
            {UP: "0x60"},
            {'up{job="logout-eu/receiver",pod="r-0"}': "1x20 0x60"} | pods("1x20 stale"),
        ],
        quiet=[{UP: "1x60"}, {'up{job="other",pod="r-0"}': "0x60"}],
    ),
    "LogoutReceiverNotReady": Case(
        fires={'bcl_ready{pod="r-0"}': "0x60"},
        quiet=[{'bcl_ready{pod="r-0"}': "1x60"}, {'bcl_ready{pod="r-0"}': "1x29 0x1 1x60"}],
    ),
    "LogoutsUnavailable": Case(
        fires=[unavailable("0x22 1x60", "redis_unavailable"), unavailable("0x22 1x60", "quota")],
        quiet=[unavailable("5x60", "redis_unavailable"), unavailable("0+1x60", "overloaded")],
    ),
    "LogoutsShed": Case(
        fires=[
            unavailable("0x22 1x60", "overloaded"),
            {"bcl_connections_shed_total": "0x22 1x60"},
        ],
        quiet=[unavailable("0+1x60", "quota"), {"bcl_connections_shed_total": "7x60"}],
    ),
    "LogoutsSlow": Case(
        fires=answers("0+98x60", "0+100x60"), quiet=answers("0+100x60", "0+100x60")
    ),
    "LogoutAvailabilityBurnsFast": Case(
        fires=[answered("0x20 0+5x60"), answered("0x20 0+5x60", reason="overloaded")],
        quiet=[
            answered("0+1x60"),  # 1 %: the slow one
            answered("0x20 0+50x60", reason="keys_unavailable"),
            answered("0x20 0+50x60", reason="quota"),
            answered("0x20 0+50x60", reason="aud_unknown", outcome="refused"),
            answered("0+50x10 500x60"),  # over
            known("0x60") | unavailable("0x20 2x60", "redis_unavailable"),
        ],
    ),
    "LogoutAvailabilityBurnsSlowly": Case(
        fires=answered("0+1x400"),
        quiet=[
            answered("0+0.3x400"),
            answered("0+50x400", reason="keys_unavailable"),
            answered("0+50x300 15000x100"),
        ],
        at="390m",
    ),
    "LogoutMarkersLate": Case(
        fires=to_marker("0+9x400", "0+10x400"),
        quiet=[
            to_marker("0+99x400", "0+100x400"),
            to_marker("0+9x300 2700+10x100", "0+10x400"),  # over
            to_marker("0+0.02x400", "0+0.04x400"),
        ],
        at="390m",
    ),
    "LogoutsRefused": Case(
        # From none, and from one in twenty minutes, to one a minute.
        fires=[refused("0x1540 0+1x60"), refused("0+0.05x1540 77+1x60")],
        quiet=[
            refused("0x1550 1x60"),
            refused("0+1x1600"),
            refused("0x1540 0+1x60", issuer="-"),
        ],
        at="26h",
        every="5m",
    ),
    "LogoutsUnreadable": Case(
        fires=[
            refused("0x1540 0+5x60", issuer="-", reason="iss_unknown"),
            # All of a provider's logouts, for ever: its issuer has none.
            known("0x1600") | refused("0+0.2x1600", issuer="-", reason="iss_unknown"),
        ],
        quiet=[
            known("0+1x1600") | refused("0+0.2x1600", issuer="-", reason="iss_unknown"),
            known("0x1600") | refused("0x1545 1x60", issuer="-", reason="iss_unknown"),
            known("0x1600") | refused("0x1540 0+5x60", issuer="-", reason="shape"),
            refused("0x1540 0+50x60"),
        ],
        at="26h",
        every="5m",
    ),
    "LogoutRequestsUnreadable": Case(
        fires=refused("0x1540 0+5x60", issuer="-", reason="shape"),
        quiet=[
            refused("0x1540 0+1x60", issuer="-", reason="shape"),
            refused("0+5x1600", issuer="-", reason="shape"),
            refused("0x1540 0+5x60", issuer="-", reason="iss_unknown"),
        ],
        at="26h",
        every="5m",
    ),
    "LogoutProviderSilent": Case(
        fires={LAST: f"0x{DAY}", GAP: f"7200x{DAY}"},
        quiet=[
            {LAST: f"0x{DAY}", GAP: f"20000x{DAY}"},
            {LAST: f"0+60x{DAY}", GAP: f"5x{DAY}"},
            {LAST: f"0x{DAY}"},
        ],
        at="5h",
    ),
    "LogoutProviderClockOff": Case(
        fires=[{CLOCK % "r-0": "45x60"}, {CLOCK % "r-0": "-20x60", CLOCK % "r-1": "1x60"}],
        quiet=[{CLOCK % "r-0": "0.7x60"}, {CLOCK % "r-0": "45x60", CLOCK % "r-1": "1x60"}],
    ),
    "LogoutKeysFailing": Case(
        fires=fetches("1x60", "0+1x60"),
        quiet=[fetches("0+1x60", "0+1x60"), fetches("1x60", "4x60")],
    ),
    "LogoutKeysStale": Case(
        fires=[
            {
                'bcl_jwks_age_seconds{issuer="op"}': "50000+60x60",
                'bcl_jwks_max_stale_seconds{issuer="op"}': "86400x60",
            },
            {'bcl_jwks_keys{issuer="op"}': "0x60"},
        ],
        quiet={
            'bcl_jwks_age_seconds{issuer="op"}': "600x60",
            'bcl_jwks_max_stale_seconds{issuer="op"}': "86400x60",
            'bcl_jwks_keys{issuer="op"}': "2x60",
        },
    ),
    "LogoutTokensParked": Case(
        fires={'bcl_parked_oldest_seconds{issuer="op"}': "90x60"},
        quiet={'bcl_parked_oldest_seconds{issuer="op"}': "20x60"},
    ),
    "LogoutTokensGivenUp": Case(
        fires={'bcl_parked_settled_total{issuer="op",outcome="given_up"}': "0x20 1x60"},
        quiet=[
            {'bcl_parked_settled_total{issuer="op",outcome="accepted"}': "0+1x60"},
            {'bcl_parked_turned_away_total{issuer="op"}': "0x20 3x60"},
        ],
    ),
    "LogoutTokensTurnedAway": Case(
        fires={'bcl_parked_turned_away_total{issuer="op"}': "0x20 3x60"},
        quiet={'bcl_parked_turned_away_total{issuer="op"}': "3x60"},
    ),
    "LogoutJournalWaiting": Case(
        fires={"bcl_journal_oldest_seconds": "400x60"}, quiet={"bcl_journal_oldest_seconds": "9x60"}
    ),
    "LogoutJournalFilling": Case(
        fires={"bcl_journal_bytes": "60x60", "bcl_journal_limit_bytes": "100x60"},
        quiet={"bcl_journal_bytes": "40x60", "bcl_journal_limit_bytes": "100x60"},
    ),
    "LogoutJournalBroken": Case(
        fires={"bcl_journal_writable": "0x60"}, quiet={"bcl_journal_writable": "1x60"}
    ),
    "LogoutJournalDamaged": Case(
        fires={"bcl_journal_damaged_files": "1x60"}, quiet={"bcl_journal_damaged_files": "0x60"}
    ),
    "LogoutJournalSetAside": Case(
        fires={'bcl_journal_entries{state="set_aside"}': "2x60"},
        quiet={'bcl_journal_entries{state="waiting"}': "2x60"},
    ),
    "LogoutRedisAway": Case(
        fires={'bcl_redis_writable{server="primary",pod="r-0"}': "0x60"},
        quiet={'bcl_redis_writable{server="primary",pod="r-0"}': "1x60"},
    ),
    "LogoutRedisNotDurable": Case(
        fires={'bcl_redis_risk{server="primary",risk="persistence"}': "1x60"},
        quiet=[
            {'bcl_redis_risk{server="primary",risk="persistence"}': "0x60"},
            {'bcl_redis_risk{server="primary",risk="replication"}': "1x60"},
        ],
    ),
    "LogoutRedisLevelMissed": Case(
        fires={"bcl_redis_durability_reached": "0x60"},
        quiet={"bcl_redis_durability_reached": "1x60"},
    ),
    "LogoutRedisMemory": Case(
        fires={'bcl_redis_memory_ratio{server="primary"}': "0.71x60"},
        quiet={'bcl_redis_memory_ratio{server="primary"}': "0.69x60"},
    ),
    "LogoutRedisEvicts": Case(
        fires={'bcl_redis_evicted_keys{server="primary"}': "0x20 9x60"},
        quiet={'bcl_redis_evicted_keys{server="primary"}': "9x60"},
    ),
    "LogoutRedisLostWrites": Case(
        fires={"bcl_recovered_revocations_total": "0x20 9x60"},
        quiet={"bcl_recovered_revocations_total": "9x60"},
    ),
    "LogoutsLost": Case(
        fires={'bcl_redis_emptied_total{pod="r-0"}': "0x20 1x60"},
        quiet={'bcl_redis_emptied_total{pod="r-0"}': "1x60"},
    ),
    "LogoutCopyNotWritable": Case(
        fires={'bcl_copy_writable{pod="r-0"}': "0x60"},
        quiet=[
            {'bcl_copy_writable{pod="r-0"}': "1x60"},
            {'bcl_copy_writable{pod="r-0"}': "1x10 0x3 1x50"},
        ],
    ),
    "LogoutAppNotWritable": Case(
        fires={'bcl_app_writable{app="shop"}': "0x60"},
        quiet=[
            {'bcl_app_writable{app="shop"}': "0x20 stale"},
            {'bcl_redis_writable{server="primary",pod="r-0"}': "0x60"},
        ],
    ),
    "LogoutTenantRefused": Case(
        fires={'bcl_tenant_refused{tenant="acme",pod="r-0"}': "1x60"},
        quiet=[
            {'bcl_tenant_refused{tenant="acme",pod="r-0"}': "1x3 stale"},
            {'bcl_reload_total{outcome="applied",pod="r-0"}': "1x60"},
        ],
    ),
    "LogoutReceiversDisagree": Case(
        fires={'bcl_max_session_age_conflict{pod="r-0"}': "2x60"},
        quiet=[
            {'bcl_max_session_age_conflict{pod="r-0"}': "0x60"},
            {'bcl_max_session_age_conflict{pod="r-0"}': "0x10 2x5 0x45"},  # a rolling update
        ],
    ),
    "LogoutAppNotReading": Case(
        fires=[
            {'bcl_app_last_report_timestamp_seconds{app="shop"}': "0x60"},
            {
                'bcl_app_last_report_timestamp_seconds{app="shop"}': "0x60",
                'bcl_app_readers{app="shop",kind="asks"}': "0x60",
                'bcl_app_readers{app="wiki",kind="asks"}': "1x60",
            },
        ],
        quiet=[
            {'bcl_app_last_report_timestamp_seconds{app="shop"}': "0+60x60"},
            {  # it asks at each request and has none
                'bcl_app_last_report_timestamp_seconds{app="shop"}': "0x60",
                'bcl_app_readers{app="shop",kind="asks"}': "1x60",
            },
        ],
    ),
    "LogoutAppUnserved": Case(
        fires={'bcl_app_unserved{app="old"}': "1x60"},
        quiet=[
            {'bcl_app_unserved{app="old"}': "1x10 stale"},
            {'bcl_app_readers{app="shop",kind="cache"}': "1x60"},
        ],
    ),
    "LogoutAppBehind": Case(
        fires={'bcl_app_group_lag_events{app="shop"}': "50x60"},
        quiet={'bcl_app_group_lag_events{app="shop"}': "50x25 0x60"},
    ),
    "LogoutAppPending": Case(
        fires={'bcl_app_group_pending_events{app="shop"}': "50x60"},
        quiet={'bcl_app_group_pending_events{app="shop"}': "3x60"},
    ),
    "LogoutAppDeadLetters": Case(
        fires={'bcl_app_dead_letters{app="shop"}': "1x60"},
        quiet={'bcl_app_dead_letters{app="shop"}': "0x60"},
    ),
    "LogoutAppWritesTooMuch": Case(
        fires=[
            {'bcl_app_memory_bytes{app="shop",part="written"}': "70000000x60"},
            {'bcl_app_memory_bytes{app="shop",part="other"}': "300000000x60"},
            {
                'bcl_app_memory_bytes{app="shop",part="events"}': "400000000x60",
                'bcl_app_events{app="shop"}': "1000x60",
            },
            {'bcl_app_unread{app="shop"}': "1x60"},
        ],
        quiet=[
            {'bcl_app_memory_bytes{app="shop",part="written"}': "20000000x60"},
            {'bcl_app_memory_bytes{app="shop",part="other"}': "200000000x60"},
            {
                'bcl_app_memory_bytes{app="shop",part="events"}': "400000000x60",
                'bcl_app_events{app="shop"}': "1000000x60",
            },
            {'bcl_app_unread{app="shop"}': "0x60"},
        ],
    ),
    "LogoutAppSlow": Case(
        fires=teardown("0+90x60", "0+100x60"), quiet=teardown("0+100x60", "0+100x60")
    ),
    "LogoutAppsNotSeen": Case(
        fires={'bcl_app_reading_age_seconds{app="shop"}': "300x60"},
        quiet={'bcl_app_reading_age_seconds{app="shop",pod="r-0"}': "3x60"},
    ),
    "LogoutCanaryFailing": Case(
        fires=[
            {CANARY: "0+1x60"},
            {CANARY: "1x8 2x10 3x60"},  # with an interval of ten minutes
        ],
        quiet=[
            {CANARY: "0x60"},
            {CANARY: "0x20 2x60"},
            {CANARY: "0+1x20 0x60"},  # well again
            {CANARY: "0x28 40 0x60"},  # with an interval of a second: a failover
        ],
    ),
}  # fmt: skip
