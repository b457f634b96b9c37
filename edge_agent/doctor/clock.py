"""Is the clock right? Certificates are not valid under a wrong one, and logs mislead."""

import ctypes
import os
import time

from edge_agent.doctor.contract import Finding, Subject, fail, ok, warn

NAME = "clock"
#: This version was written after it; a device without a battery-backed clock begins at 1970 or so.
_WRITTEN = 1_795_000_000  # 2026-11-18
_WARN_S, _FAIL_S = 60.0, 3600.0
_ADVICE = "set it, or let it be set: systemctl enable --now systemd-timesyncd (or ntpd, chrony)."
_UNSYNCHRONISED = 5  # TIME_ERROR of adjtimex(2)
#: struct timex is 208 bytes on 64-bit Linux; the rest is room.
_TIMEX_BYTES = 512


def check_clock(subject: Subject) -> list[Finding]:
    """Compare the clock with what it can't be before, and ask the kernel whether it is steered."""
    told = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(subject.now))
    if subject.now < _WRITTEN:
        return [fail(NAME, f"it says {told}, before this program was written", _ADVICE)]
    if _steered() is False:
        return [warn(NAME, f"{told}, and nothing sets it", _ADVICE)]
    return [ok(NAME, told)]


def compared(here: float, there: float) -> Finding:
    """Return how far this clock is from the hub's, in Unix times."""
    apart_s = here - there
    if abs(apart_s) < _WARN_S:
        return ok(NAME, f"{abs(apart_s):.0f} s from the hub's")
    way = "ahead of" if apart_s > 0 else "behind"
    make = fail if abs(apart_s) >= _FAIL_S else warn
    return make(NAME, f"{abs(apart_s):.0f} s {way} the hub's", _ADVICE)


def _steered() -> bool | None:
    """Return whether the kernel knows the clock to be synchronised; None where it can't be asked.

    adjtimex(2) with no mode set only reads, and needs no right.
    """
    if not hasattr(os, "uname") or os.uname().sysname != "Linux":
        return None
    try:
        call = ctypes.CDLL(None, use_errno=True).adjtimex
    except (OSError, AttributeError):
        return None
    state = int(call(ctypes.create_string_buffer(_TIMEX_BYTES)))
    return None if state < 0 else state != _UNSYNCHRONISED
