"""What operators read of what happened.

    story    what happened to a token, in one line and in numbers
    log      where the lines go

    metrics     every metric: name, meaning, labels
    cells       where counters stand, also beyond the death of a worker
    tally       counts what happens, where it happens
    readings    what Redis knows of the apps, now and then (silence: of the providers)
    exposition  from numbers to text

Told by whom it happens to; knows nobody else.
"""
