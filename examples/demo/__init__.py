"""``make demo``: a real logout, on this machine, from the click to the end of the app's session.

    __main__     the command: what it prints at the end, signals, the exit status
    stage        receiver, provider and relying app as child processes in a temporary directory
    ports        which ports they take
    processes    one child: started, waited for, ended in every case
    orphan       the embedded server of a receiver that was killed ends, too
    scene        the scripted part: two browsers sign in, one session ends
    browser      a browser without a screen: cookies, links, forms
    transcript   what the person at the terminal reads

Everything listens on loopback only. Nothing is left behind: no process, no file.
"""
