"""The operators' listener.

    probes       `/livez`, `/readyz`: how they are asked
    health       what they say, of one process and of several

    api          `/api`, put together; not there without an ``admin_token``
    access       the gate: Host, origin, token (failures: who was wrong too often)
    asked        what a request says: path, query, body
    faults       what is refused, in one shape (provider_faults: what a provider's fault is to us)
    json_api     routes and faults put together, for the users' listener, too
    records      acts and looks, in the audit
    sessions     the providers' sessions: listed, ended, followed (showing: as JSON)
    provider_sessions   what follows their ends, for the users' listener, too
    revocations  end by hand, and the history of one
    overview     issuers and apps
    feed         logouts and refusals as they happen
    openapi      the document (openapi_schemas: its shapes; resource: a path and its methods)

    console      `/console`, for people: its own map

Never for providers or users.
"""
