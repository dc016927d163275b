"""Faults on demand, for tests: the environment variable LMSCALE_FAULT names a point of the program and what
happens there. Without it every hook is one comparison with None.

LMSCALE_FAULT="point[:nth]=action[,...]": the nth time (1 unless said) the point is passed, `action` happens:
kill (SIGKILL to this process), stop (SIGSTOP), interrupt (SIGINT), terminate (SIGTERM), crash (an exception),
or the name of an error number such as ENOSPC (an OSError). `point:*=action` happens every time.
"""

import errno
import os
import signal
from collections import Counter

VARIABLE = "LMSCALE_FAULT"
SIGNALS = {
    "kill": signal.SIGKILL,
    "stop": signal.SIGSTOP,
    "interrupt": signal.SIGINT,
    "terminate": signal.SIGTERM,
}


class InjectedCrash(RuntimeError):
    """The exception that the action `crash` raises."""


def parse(text: str) -> dict[str, dict[int, str]]:
    """Return {point: {nth: action}} of LMSCALE_FAULT's text; nth 0 is every time. Raises ValueError where it is
    wrong."""
    plan: dict[str, dict[int, str]] = {}
    for item in filter(None, text.split(",")):
        where, separator, action = item.partition("=")
        point, _, nth = where.partition(":")
        if not separator or not (action in SIGNALS or action == "crash" or hasattr(errno, action)):
            raise ValueError(f"{VARIABLE}: {item!r} is not point[:nth]=action")
        plan.setdefault(point, {})[0 if nth == "*" else int(nth or 1)] = action
    return plan


_plan = parse(os.environ[VARIABLE]) if os.environ.get(VARIABLE) else None
_passed: Counter[str] = Counter()


def point(name: str) -> None:
    """Pass a place where a test may ask for a fault."""
    if _plan is not None and name in _plan:
        _act(name)


def torn(name: str, fd: int, data: bytes) -> None:
    """Pass the point in the middle of writing `data` to `fd`: a fault here leaves its first half behind."""
    if _plan is not None and name in _plan:
        if _due(name, _passed[name] + 1):
            os.write(fd, data[: len(data) // 2])
        _act(name)


def _due(name: str, nth: int) -> str | None:
    assert _plan is not None
    return _plan[name].get(nth) or _plan[name].get(0)


def _act(name: str) -> None:
    _passed[name] += 1
    action = _due(name, _passed[name])
    if action is None:
        return
    if action == "crash":
        raise InjectedCrash(f"injected at {name}")
    if action in SIGNALS:
        os.kill(os.getpid(), SIGNALS[action])
        return
    number = getattr(errno, action)
    raise OSError(number, os.strerror(number))
