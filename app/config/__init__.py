"""Settings: what an operator can configure, checked before anything starts.

load           reads all settings: the main file's and those of every tenant's file
main_file      reads the main file and ``BCL_*`` variables; reports every fault at once
model          the top-level settings
issuers        a provider and its clients
session_api    a provider's session API
account        the users' listener
admin_oidc     sign-in to the console through a provider
canary         the receiver's own test session
secrets        decryption keys and secrets, from the settings or from files
types          the types of values: durations, sizes, addresses, URLs
base           the base of every table; tables of which only some values are valid
inheritance    hands options of the top level down to issuers and clients
cross_checks   rules that involve several settings (issuer_checks: those of one issuer's tables)
presets        facts about each provider (providers.toml)
"""
