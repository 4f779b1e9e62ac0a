"""Real parts for tests: Redis servers, providers with their keys, receivers as processes."""
