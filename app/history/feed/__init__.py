"""New events and refusals as they arrive, resumable from a cursor.

event_feed         one client's feed
feed_reader        the one reader behind all feeds of a process
stream_positions   polls many streams for new entries in few round trips
cursor             how far a feed has been read, as one line                (pure)
"""
