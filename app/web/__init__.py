"""What the admin API, the console and the users' listener share.

resource           a path and its methods
params             checked path, query and body of a request
json_api           an application of JSON resources
errors             refusals as JSON
provider_errors    a provider's failure as an API error
operator           on whose behalf a request is served
audit_log          writes who did and viewed what
provider_sessions  the session APIs and the terminations in progress
"""
