"""From a revocation to Redis: written whole and durably, or not acknowledged."""
