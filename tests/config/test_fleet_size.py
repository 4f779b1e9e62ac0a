"""Settings of a large fleet, with names as long as real ones."""

from pathlib import Path

from app.config.load import load

# Of a ConfigMap in Kubernetes.
MAX_BYTES = 1 << 20


def test_ten_thousand_apps_fit_in_one_config_map(tmp_path: Path) -> None:
    lines = ['redis_url = "redis://redis"']
    for tenant in range(100):
        lines += ["[[issuers]]", f'issuer = "https://tenant-{tenant}.eu.auth0.com/"', "clients = ["]
        for n in range(100):
            client_id = f"S6u5TZ3lq0g7Xh2b9pKd{tenant:03}{n:03}AbCdEf"  # 32 characters, as Auth0's
            app = f"tenant-{tenant:03}-app-{n:03}"
            lines.append(f'  {{ client_id = "{client_id}", app = "{app}" }},')
        lines.append("]")
    path = tmp_path / "receiver.toml"
    path.write_text("\n".join(lines))
    assert path.stat().st_size < MAX_BYTES
    settings = load(path, {})
    apps = {client.app for issuer in settings.issuers for client in issuer.clients}
    assert len(apps) == 10_000
