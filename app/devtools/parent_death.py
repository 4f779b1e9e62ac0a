"""A child process that ends with us, whatever has ended us."""

import ctypes
import os
import signal
import sys
from collections.abc import Callable

# Linux, <sys/prctl.h>; Python does not name it.
_PR_SET_PDEATHSIG = 1


def ending_with_us() -> Callable[[], None] | None:
    """A ``preexec_fn``: the kernel sends the child SIGTERM when the thread that started it has
    ended, also by SIGKILL. None elsewhere than on Linux, where there is no such thing.

    For children that are started by the main thread.
    """
    if sys.platform != "linux":
        return None
    # Looked up here: between fork and exec nothing may wait for a lock.
    prctl, term, parent = ctypes.CDLL(None).prctl, int(signal.SIGTERM), os.getpid()

    def in_child() -> None:
        prctl(_PR_SET_PDEATHSIG, term)
        if os.getppid() != parent:  # it has ended before we asked
            os.kill(os.getpid(), term)

    return in_child
