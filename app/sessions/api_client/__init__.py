"""Bounded HTTP calls to a provider's API.

calls                one call: a response, or a `ProviderFault`
rate_limit_gate      pauses all calls to a provider that answered 429
client_credentials   access tokens for the API: cached and renewed
shapes               the responses, as far as they are read
path_segment         an id as one segment of a path
"""
