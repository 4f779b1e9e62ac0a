"""What operators read of what happened.

    story    what happened to a token, in one line
    log      where the lines go

Told by whom it happens to; knows nobody else.
"""
