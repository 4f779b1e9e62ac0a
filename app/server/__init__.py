"""HTTP itself: listeners, connections and their limits.

listeners          serves an application on a socket; shuts down without resetting clients
sockets            binds the addresses of the settings
connection_limits  what a client may take before its request is understood
strict_http        refuses ambiguous HTTP/1.1 (request smuggling)
lingering          closes a connection without losing the response
fast_path          takes a complete POST to the one hot path past ASGI
"""
