"""One adapter per provider, each a `SessionProvider`.

factory          builds the adapter of a configured issuer
auth0            Auth0's Management API v2
keycloak         Keycloak's Admin REST API; keycloak_shapes: its responses
kratos           Ory Kratos' admin API; kratos_whoami: identifies users by their own credential
"""
