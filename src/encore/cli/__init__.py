"""The command line: `encore list | show | run | fit | predict | evaluate | export | compare | data`.

Standard output carries results, standard error progress and errors. Exit codes: 0 done, 1 a fault in
Encore, 2 something the user can mend (one line, with the remedy), 3 with `--strict` a claim did not hold,
130 interrupted.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from encore.base.errors import InputError
from encore.base.processes import process_rank
from encore.cli.app import app
from encore.cli.options import USAGE_ERROR

INTERRUPTED = 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    if process_rank() > 0:
        sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115 -- open until the process ends
    try:
        code = app(args=list(arguments) if arguments is not None else None, prog_name="encore", standalone_mode=False)
    except InputError as error:
        return _complain(f"{error.problem}: {error.remedy}", error.exit_code)
    except USAGE_ERROR as error:
        context = getattr(error, "ctx", None)
        command = context.command_path if context is not None else "encore"
        return _complain(f"{error.format_message()} See '{command} --help'", 2)
    except KeyboardInterrupt:
        code = INTERRUPTED
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # whoever read us has left
        return 0
    if code == INTERRUPTED:
        return _complain("interrupted: what is done is kept; continue with --resume and the same --out", code)
    return int(code or 0)


def _complain(text: str, code: int) -> int:
    """Print one line to standard error and hand back the exit code."""
    print("encore: " + " ".join(text.split()), file=sys.stderr)  # noqa: T201
    return code
