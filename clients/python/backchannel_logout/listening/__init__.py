"""Being told of each logout: for what has no next request.

listener      what an app uses: a loop, or handlers; asyncio
threads       the same for threads
options       what an app has chosen, whichever it uses
reading       the order of work that both modes share
group         each event is handled by one replica
takeover      ... and by another one, if that replica has died
broadcast     each replica sees each event
deliveries    what is in hand: fresh, tried again, dealt with
dead_letters  what could not be handled                                   (pure)
primary       the server that has the stream, as it is now
line          the connection that says what was handled, and waits for more
waits         ... for so long, or until another task ends it
"""
