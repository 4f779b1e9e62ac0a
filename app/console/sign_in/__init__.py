"""Sign-in to the console, with the admin token or at an OpenID Connect provider.

routes             the pages of sign-in and sign-out
operator_sessions  the console's sessions, in memory, and the middlewares that read them
next_page          the page after the sign-in: always one of the console's        (pure)
refused_sign_ins   writes refused sign-ins to the audit log, within a bound
oidc               the authorization code flow
discovery          the provider's discovery document, cached
pending            sign-ins under way, each in a cookie
code_exchanges     limits concurrent requests to the token endpoint
id_token           checks of the ID token's claims                                (pure)
"""
