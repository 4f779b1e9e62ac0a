"""A back-channel logout receiver. The way of one logout token, a module a step:

    inbound.backchannel    the provider's POST, and its answer
    inbound.form           its one field                            -> unverified token
    tokens.encrypted_jwt   where it is encrypted: the signed token inside  -> unverified token
    tokens.signed_jwt      shape, issuer, header, key, signature    -> verified claims
    tokens.provider_keys   the issuer's keys: fetched, cached, renewed within a budget
    tokens.jwks            one key set: which keys fit               (pure)
    tokens.logout_token    the claims, one rule after the other     -> LogoutToken
    revocation             whom, since when, until when             -> Revocation (pure)
    publish.writer         every relying app concerned: Redis or journal, else 503
    publish.store          one atomic script in Redis: markers, event, jti
    publish.journal        on disk until Redis takes it; replay brings it there
    (client package)       the relying app asks, or is told

Around it:

    settings     what an operator may say; every fault at once
                 (settings_model, settings_issuers: the settings themselves)
                 (settings_values: what a value may look like; settings_rules: what must agree)
                 (settings_admin: who signs in to the console)
                 (settings_secrets: decryption keys and clients' secrets, read with the settings)
    presets      what is known of each provider (providers.toml; provider_page writes the document)
    service      the composition root: Redis, parts, listeners; stops in order
    parts        everything between the listeners and Redis
    addresses    taken before anything else starts
    listeners    serves them, and stops so that nobody honest sees a reset
    inbound      also: what a client may take of us, how much is at work, what waits for keys
    admin        the operators' listener: health, metrics, API and console
    apis         what operators and users may ask, where they may
    operating    the operators' API and console, built and kept running
    sessions     the providers' own sessions, through their APIs
    account      the users' listener: their own sessions
    embedded     a Redis of our own, for trying things out
    errors       theirs, ours, and the table to HTTP (mending: what to do about each refusal)
    explanation  a token, rule by rule, for people
    words        times and values as people write them
    verdict      rows with a verdict: what `check`, `status` and the console show
    history      reads back: is this session dead, by which token, who has acted
    telemetry    what operators read of what happened: the log, the metrics
    log, spans   how a module says that something happens, and how long it takes
    tasks        work in the background
    lifeline     a child process that ends with us
    lean         imported first: without what libraries bring along unasked
    cli          a file for each command
    acts         an administrator's act, as revocations                    (pure)
    audit        who did what to whose sessions, and who looked
    canary       a session of our own, ended on a schedule through the whole path

"""

__version__ = "0.1.0"
