"""`/console`, for the people on call: HTML that the server makes, and one small script.

console     put together: who comes in, the headers of every answer, the files
signed_in   the console's own sessions: in memory, ended by sign-out, time, or a logout
access      the pages of sign-in and sign-out
next_page   the page that follows the sign-in: one of ours                (pure)
refused_sign_ins  in the audit, bounded
oidc        sign-in at a configured provider: `discovery` its document, cached; `pending` what is
            under way, in a cookie; `id_token` what the token must say
pages       what can be looked at
sessions    a user's sessions at the provider; ends them
pasted      tokens that somebody pastes: judged, and forgotten
views       what pages show, from what history tells                  (pure)
session_views  what pages of sessions show                            (pure)
plot        times of teardown as a small picture                      (pure)
rendering   templates, and the files they name
texts       every English text of the templates
"""
