"""The connection layer: everything that touches redis-py.

connection    a URL, or the app's own client, as a connection that gives up in time
sentinels     finds the primary when Sentinels disagree
primary       the server that holds an app's keys now
primary_link  one connection to it
pipeline      commands and replies on one connection
"""
