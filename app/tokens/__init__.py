"""Verifies tokens: from bytes that anybody may have sent to claims that the issuer has signed.

    signed_jwt         parse, check the header, verify
    encrypted_jwt      decrypt, to the signed token inside (`private_key`: with joserfc)
    logout_token       the claims, rule by rule, and the accepted ``typ``
    strict_json        JSON that every parser reads alike
    jwks               one key set: which keys fit (`verification_cost`: how many are tried)
    provider_keys      an issuer's keys: cached, refreshed, fetched within a budget
    first_fetches      one log line for the first fetches of all issuers
    asked_fetches      fetches that an operator asks for, in every receiver
    fixed_keys         keys that are never fetched
    fetch              one bounded GET (`fetch_budget`: how many)
    client_algorithms  clients with algorithms or secrets of their own
    other_kind         what another kind of token seems to be

Knows nothing about HTTP responses or relying apps, and Redis only in `asked_fetches`.
"""
