"""From bytes that anybody may have sent to claims that the issuer has signed.

Knows nothing of HTTP answers, Redis or relying apps.
"""
