"""The operators' listener.

    health    `/livez`, `/readyz`
    api       `/api`, for programs
    console   `/console`, for people

Never for providers or users.
"""
