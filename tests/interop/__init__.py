"""Real identity providers, driven by a scripted browser, end the sessions of real relying apps.

oidc_provider.mjs  npm's oidc-provider, with a line protocol for the tests
oidc_provider      its process
better_auth/       npm's better-auth, with a line protocol for the tests, in a folder of its own
better_auth_process  its process
node               whether a provider from npm can be started
keycloak_dist      Keycloak's distribution, from Maven's registry, in the user's cache
keycloak           the one server of a test run; its realms, and their administrator
kratos_dist        Ory Kratos, built from its Go module, in the user's cache
kratos             a server of it, and users who log in
browser            follows redirects, keeps cookies, presses the buttons of HTML forms
oidc_client        the relying app's side of OpenID Connect: code flow, PKCE, refresh
relying_app        an app over HTTP whose ``/me`` answers 200 or 401
visitor            a person in front of a browser: signs in to apps, and out at the provider
setup              one test's receiver, relying apps and browsers
"""
