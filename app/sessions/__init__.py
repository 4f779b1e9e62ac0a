"""The providers' own sessions: listed, read and ended through each provider's API.

model        one session, a page of them, lifetimes
lifecycle    when a session ends, and whether it has     (pure)
interface    what every adapter can do, and how it fails
segment      an id as one segment of a path
"""
