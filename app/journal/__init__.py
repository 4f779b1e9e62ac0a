"""Revocations on disk: those that Redis has yet to take, and a copy of those that it took.

journal           accepted while Redis was away, until they are replayed
pending_log       the journal's log: which entries are pending
replay            writes the journal's entries to Redis
ack_log           the copy of what Redis acknowledged recently
recovery          restores markers from the copy after Redis lost data
segment_log       an append-only log in segment files; the journal and the copy are each one
record            one checked record of such a log
files             a journal for each process; adopts those of processes that have ended
inspection        reads the journal of a running process
sqlite_migration  moves an earlier release's journal into the log
"""
