"""Listeners: deliver each logout, for sessions without a next request.

listener      what an app uses: a loop, or handlers; asyncio
threads       the same for threads
options       the options of a listener
loop          the order of work that both modes share
group         each event is handled by one replica
trimming      whether a stream was trimmed past a group's position             (pure)
takeover      ... or by another one, if that replica has died
broadcast     each replica reads each event
inflight      deliveries in progress: fresh, to retry, handled           (pure)
dead_letters  events that no handler could process                       (pure)
upkeep        reports of this process
batch_size    how many events a replica reads at once
deadlines     how long to wait for Redis, and ending the wait early
"""
