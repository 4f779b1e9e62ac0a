"""HTTP itself: listeners, connections and their limits.

listeners          serves an application on a socket, until a stop
shutdown           stops the service without resetting clients
sockets            binds the addresses of the settings
paths              the path of the public listener
fast_path          takes complete POSTs to that path past ASGI
connection_limits  limits a client's connections, bytes and time
strict_http        refuses ambiguous HTTP/1.1 (request smuggling)
lingering          closes a connection without losing the response
uvicorn_internals  the members of uvicorn that the three above rely on
"""
