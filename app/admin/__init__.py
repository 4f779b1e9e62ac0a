"""The operators' listener.

    health    `/livez`, `/readyz`

Never for providers or users.
"""
