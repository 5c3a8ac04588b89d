"""The commands, and what becomes of their exceptions."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Sequence

from cyclopts import App, CycloptsError, MissingArgumentError, Parameter

import trio_mcast

from .classify import classify
from .demo import demo
from .doctor import doctor
from .errors import UsageError
from .interfaces import interfaces
from .listen import listen
from .memberships import memberships
from .output import prepare_streams, silence_streams, tell
from .plan import plan
from .send import send

PROGRAM = "trio-mcast"

app = App(
    name=PROGRAM,
    help="""\
Hear and send UDP multicast, and find out what is going on.

Try, in two terminals:

    trio-mcast listen 239.1.2.3 --port 5000
    trio-mcast send 239.1.2.3 hello --port 5000

A group is written [SOURCE@]GROUP[%INTERFACE] everywhere.
Exit codes: 0 done, 1 nothing received or a finding, 2 wrong usage.
""",
    help_format="plaintext",
    version=trio_mcast.__version__,
    backend="trio",
    result_action="return_value",
    suppress_keyboard_interrupt=False,
    # No --no-json and --empty-source beside --json and --source, no "[default: False]".
    default_parameter=Parameter(negative=(), show_default=False),
)


def _add(command: Callable[..., object], usage: str | None = None) -> None:
    # Arguments are described in lines as short as any here, and joined for the terminal to wrap.
    text, heading, arguments = inspect.cleandoc(command.__doc__ or "").partition("\nArgs:")
    command.__doc__ = text + heading + re.sub(r"\n {4}(?=\S)", " ", arguments)
    app.command(command, usage=usage)


_add(listen, "Usage: trio-mcast listen --port INT [OPTIONS] GROUP...")
_add(send, "Usage: trio-mcast send --port INT [OPTIONS] GROUP [MESSAGE]")
_add(interfaces)
_add(classify, "Usage: trio-mcast classify [OPTIONS] ADDRESS...")
_add(plan)
_add(demo)
_add(doctor, "Usage: trio-mcast doctor [OPTIONS] [GROUP...]")
_add(memberships)


def run(arguments: Sequence[str]) -> int:
    """Do what the arguments say, and return the exit code."""
    prepare_streams()
    try:
        return app(arguments, exit_on_error=False, print_error=False) or 0
    except CycloptsError as error:
        chain = " ".join((PROGRAM, *(error.command_chain or ())))
        return _fail(2, _say_missing(error), f"see {chain} --help")
    except trio_mcast.InterfaceNotFoundError as error:
        return _fail(2, error, f"see {PROGRAM} interfaces")
    except BrokenPipeError:  # nobody reads on, as with `| head`
        silence_streams()
        return 0
    except OSError as error:
        silence_streams()
        return _fail(1, error)
    except (trio_mcast.MulticastError, UsageError, ValueError) as error:
        return _fail(2, error)
    except BaseExceptionGroup as group:
        if group.split(KeyboardInterrupt)[1] is not None:
            raise
        raise KeyboardInterrupt from None  # from a nursery


def _say_missing(error: CycloptsError) -> Exception:
    """The error; of what was left out, cyclopts would say that it lacks an argument."""
    if isinstance(error, MissingArgumentError) and error.argument and not error.keyword:
        return UsageError(f"{error.argument.name} is missing")
    return error


def _fail(code: int, error: Exception, *hints: str) -> int:
    """Say in one line what went wrong, and below it what to do about it."""
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    tell(f"{PROGRAM}: {' '.join(text.split())}")
    tell(*(f"  {hint}" for hint in (*getattr(error, "__notes__", ()), *hints)))
    return code
