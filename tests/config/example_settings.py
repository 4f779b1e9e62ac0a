"""Valid settings, to be changed in one place."""

# The example of the contract, section 7, verbatim.
EXAMPLE = """\
listen = "127.0.0.1:8000"
admin_listen = "127.0.0.1:9000"
redis_url = "redis://127.0.0.1:6379/0"

[[issuers]]
issuer = "https://tenant.eu.auth0.com/"
# jwks_uri = "https://tenant.eu.auth0.com/.well-known/jwks.json"
algorithms = ["RS256"]

  [[issuers.clients]]
  client_id = "shop-web"
  app = "shop"                # the relying app's name in Redis
  max_session_age = "30d"     # the longest an app session can live after its login
"""

SHORT = {
    "BCL_ISSUER": "https://op.example/",
    "BCL_CLIENT_ID": "shop-web",
    "BCL_REDIS_URL": "redis://127.0.0.1:6379/0",
}


def document(*, top: str = "", issuer: str = "", client: str = "", rest: str = "") -> str:
    """A valid file, with lines added to its parts."""
    return f"""
redis_url = "redis://127.0.0.1:6379/0"
{top}
[[issuers]]
issuer = "https://op.example/"
{issuer}
[[issuers.clients]]
client_id = "shop-web"
{client}
{rest}
"""


def another_issuer(client: str, *, client_id: str = "shop-web", issuer: str = "") -> str:
    return (
        f'[[issuers]]\nissuer = "https://second.example/"\n{issuer}\n'
        f'[[issuers.clients]]\nclient_id = "{client_id}"\n{client}'
    )
