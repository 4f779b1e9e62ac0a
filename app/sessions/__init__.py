"""The providers' own sessions: lists, reads and ends them through each provider's API.

provider_session   one session, a page of sessions, and lifetimes
session_provider   the protocol that every provider's adapter implements, and its faults
lifecycle          when a session ends, and whether it has ended            (pure)
bulk               lists all sessions of a user, and checks their owner

providers/         one adapter per provider: Auth0, Keycloak, Ory Kratos
api_client/        bounded HTTP calls to a provider's API
termination/       ends a session at the provider and follows it until every app has let go
"""
