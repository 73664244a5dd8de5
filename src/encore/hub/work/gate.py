"""Started by its path, with a command as arguments: waits for a word on standard input, then becomes the command.

So a run's process number is in the database before the run begins. Where the worker dies in between, standard input
ends and nothing is begun. This file imports nothing of Encore.
"""

import os
import signal
import sys

if __name__ == "__main__":
    if not os.read(0, 1):
        sys.exit("nobody minds this run")
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.nice(5)  # pages come first
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # a worker in the background of a shell ignores it; a run must not
    os.execv(sys.argv[1], sys.argv[1:])
