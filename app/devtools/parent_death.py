"""Ends a child process together with its parent, even if the parent is killed."""

import ctypes
import os
import signal
import sys
from collections.abc import Callable

# From Linux' <sys/prctl.h>; Python has no name for it.
_PR_SET_PDEATHSIG = 1


def ending_with_us() -> Callable[[], None] | None:
    """Return a ``preexec_fn`` that has the kernel end the child; None elsewhere than on Linux.

    The kernel sends SIGTERM when the thread that started the child has ended, so start the child
    in the main thread.
    """
    if sys.platform != "linux":
        return None
    # Looked up here: between fork and exec nothing may wait for a lock.
    prctl, term, parent = ctypes.CDLL(None).prctl, int(signal.SIGTERM), os.getpid()

    def in_child() -> None:
        prctl(_PR_SET_PDEATHSIG, term)
        if os.getppid() != parent:  # it ended before the call above
            os.kill(os.getpid(), term)

    return in_child
