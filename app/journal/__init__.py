"""Revocations on disk: those that Redis has yet to take, and a copy of those that it took.

journal       revocations accepted while Redis was away, until they are replayed
replay        brings them to Redis
ack_log       the copy of what Redis acknowledged recently
recovery      restores markers from the copy after a Redis lost data
record        one checked record
table         the journal's rows
append        one append and its faults
files         journal files of earlier processes
salvage       reads a damaged file
sqlite        the database file
disk_reserve  space kept for a full disk
"""
