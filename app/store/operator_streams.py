"""The Redis keys of the streams that belong to no app. Operators read them."""

REFUSED = "bcl:v1:refused"
"""The stream of refused tokens (`app.telemetry.refusals`)."""

AUDIT = "bcl:v1:audit"
"""The stream of administrators' acts and session look-ups (`app.audit`)."""
