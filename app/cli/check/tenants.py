"""Rows about the files of ``tenants_dir``: one for each tenant, and one for each fault."""

from collections.abc import Iterator

from app.cli.table import CheckVerdict, Row, count
from app.config.load import Loaded


def tenant_rows(loaded: Loaded) -> Iterator[Row]:
    """Those with faults first."""
    for name, faults in loaded.refused.items():
        kept = "; its last good state is used" if name in loaded.tenants else "; it is not served"
        for fault in faults:
            yield Row(CheckVerdict.WRONG, f"tenant {name}", fault + kept)
    for name, tenant in loaded.tenants.items():
        if name not in loaded.refused:
            apps = sorted({client.app for issuer in tenant.issuers for client in issuer.clients})
            text = f"{count(len(tenant.issuers), 'issuer')}; apps: {', '.join(apps)}"
            yield Row(CheckVerdict.RIGHT, f"tenant {name}", text)
