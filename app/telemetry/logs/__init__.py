"""The log of the process: one line per event, as JSON or for a terminal.

setup        sends the standard library's logging here; once per process
lines        renders a line, without secrets
output       the queue and the thread that write to standard error
repetitions  logs a repeated failure once, then with a count
line_limit   how many lines of refused tokens are logged per minute
"""
