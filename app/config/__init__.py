"""Settings: what an operator can configure, checked before anything starts.

load           reads the TOML file and ``BCL_*`` variables; reports every fault at once
model          the top-level settings
issuers        a provider and its clients
session_api    a provider's session API
account        the users' listener
admin_oidc     sign-in to the console through a provider
canary         the receiver's own test session
secrets        decryption keys and client secrets
types          the value types: durations, sizes, addresses
cross_checks   rules that involve several settings
presets        what is known of each provider (providers.toml)
provider_page  writes docs/providers.md from the presets
"""
