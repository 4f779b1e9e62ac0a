"""The connection to Redis, for guards, listeners and the receiver.

connection    clients from a URL, or from the app's own client, which give up in time
sentinels     which server is the primary when Sentinels disagree
topology      which server takes the writes to a key, also after a failover
pipeline      commands and replies on one connection
primary       the server that holds one app's keys, for a listener or a tail
internals     the only module that knows private members and releases of redis-py
cancellation  cancellations that redis-py swallows
"""
