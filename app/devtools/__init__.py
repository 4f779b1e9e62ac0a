"""For local trials; never part of the image.

embedded_redis  a real server as a child process
parent_death    ends a child process together with its parent
"""
