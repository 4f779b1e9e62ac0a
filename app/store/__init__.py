"""Redis: one atomic write per revocation, batched, on the current primary.

store        runs store.lua: markers, event, jti
batching     sends concurrent writes in one round trip
command      encodes one script call
durability   the level of durability that each write waits for
topology     connections to the primary: standalone, Sentinel, Cluster
monitor      whether Redis accepts writes now
server_info  settings of the server that endanger markers
app_meta     the ``meta`` hash of each app
app_sizes    how much an app's credential has written
other_keys   sizes of keys outside the contract
unserved     apps that no receiver serves any more
errors       what can go wrong, as our own exceptions
"""
