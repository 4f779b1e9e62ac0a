"""Real servers and proxies: Redis, HAProxy, nginx, TLS, HTTP."""
