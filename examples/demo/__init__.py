"""``make demo``: a real logout on this machine, from the click to the end of the app's session.

    __main__     the command: its final output, signals, the exit status
    services     receiver, provider and app as child processes in a temporary directory
    ports        their ports
    processes    starts, awaits and always ends one child
    orphan       also ends the embedded server of a receiver that was killed
    scenario     the scripted part: two browsers sign in, one session ends
    browser      a headless browser: cookies, links, forms
    transcript   the output in the terminal

Everything listens on loopback only. No process and no file is left behind.
"""
