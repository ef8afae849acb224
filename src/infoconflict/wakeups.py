"""One timer for Snakemake's scheduler, where it starts one more for each job.

Snakemake 9.27 starts a timer after each pass of its scheduler, to see a second later whether its limit of jobs per second
lets more start. Each timer leads to a pass and so to the next timer, and each job that ends begins one more such chain: after
a thousand jobs there are a thousand passes a second, each of which asks for the sizes of all inputs of all ready jobs (see
issues 2967 and 3744 of Snakemake). On the tiny grid's 1,352 jobs this took most of a core. One timer at a time does the same.
"""

import threading
from typing import Any


def keep_one_timer(scheduler: type) -> None:
    """Let a ``JobScheduler`` have one timer at a time; a class without such a method is left as it is."""
    if hasattr(scheduler, "_schedule_reevalutation"):
        scheduler._schedule_reevalutation = _look_again_once


def _look_again_once(self: Any, delay: float) -> None:
    """Start a timer that lets the scheduler make a pass in ``delay`` seconds, unless one is running."""
    if getattr(self, "_timer_is_running", False):
        return
    self._timer_is_running = True

    def look_again() -> None:
        # Before the pass that it lets begin, so that this pass can start the next.
        self._timer_is_running = False
        self._open_jobs.release()

    timer = threading.Timer(delay, look_again)
    timer.daemon = True
    timer.start()
