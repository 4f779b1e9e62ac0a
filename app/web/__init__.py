"""What the admin API, the console and the users' API share.

resource           a path and its methods
params             checked path, query and body of a request
json_api           an application of JSON resources
errors             errors as JSON
provider_errors    a provider's failure as an API error
session_models     a provider's sessions and their terminations, as JSON
event_stream       server-sent events
credentials        bearer tokens
operator           on whose behalf a request is served
audit_log          records who did and viewed what
provider_sessions  the session APIs and the terminations in progress
"""
