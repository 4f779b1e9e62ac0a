"""The operators' API: health, metrics and `/api`. Never reachable for providers or users.

probes           `/livez` and `/readyz`
health           whether the service is ready, and what is wrong
metrics          `/metrics`
gauges           the current value of every gauge
hosts            checks the `Host` of every request

api              the application of `/api`
access           authenticates requests: host, origin, token
auth_throttle    limits failed token attempts
sessions         the providers' sessions: list, read, end
session_service  the same operations, shared with the console
revocations      ends sessions in the apps, and reads their history
overview         issuers and apps
feed             logouts and refusals as they happen
responses        the models of the answers
openapi          the OpenAPI document
"""
