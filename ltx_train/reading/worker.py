"""The process that decodes: jobs come in, answers go out, arrays go through a file."""

import os
import pickle
import sys

from ltx_train.reading.decode import decode


def serve(number: int) -> None:
    """Do what comes in on stdin until it ends; arrays go to the file with this descriptor.

    Answers are pickled, as jobs are: both ends are this program.
    """
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a decoder prints must not come in between
    with os.fdopen(number, "r+b") as out:
        while True:
            try:
                job = pickle.load(sys.stdin.buffer)
            except EOFError:
                return
            out.seek(0)
            out.truncate()
            decoded = decode(job, out)
            out.flush()
            try:
                pickle.dump(decoded, answers)
                answers.flush()
            except BrokenPipeError:  # the run was killed meanwhile
                os._exit(1)
