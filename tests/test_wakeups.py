"""Snakemake's scheduler with one timer at a time."""

import threading

from snakemake.scheduling.job_scheduler import JobScheduler

from infoconflict.wakeups import keep_one_timer


def scheduler() -> object:
    class Scheduler:
        def __init__(self) -> None:
            self._open_jobs = threading.Semaphore(0)

        def _schedule_reevalutation(self, delay: float) -> None:
            raise AssertionError("this is what is replaced")

    keep_one_timer(Scheduler)
    return Scheduler()


def test_each_pass_starts_the_next_one_and_never_two() -> None:
    one = scheduler()
    before = threading.active_count()
    for _ in range(20):
        one._schedule_reevalutation(0.05)
    assert threading.active_count() == before + 1
    for _ in range(3):
        assert one._open_jobs.acquire(timeout=10)
        # No second permit came with the first.
        assert not one._open_jobs.acquire(blocking=False)
        one._schedule_reevalutation(0.01)
    assert one._open_jobs.acquire(timeout=10)


def test_the_locked_snakemake_still_has_what_is_replaced() -> None:
    assert hasattr(JobScheduler, "_schedule_reevalutation"), (
        "Snakemake has changed; look whether wakeups.py is still needed"
    )


def test_a_class_without_timers_is_left_alone() -> None:
    class Other: ...

    keep_one_timer(Other)
    assert not hasattr(Other, "_schedule_reevalutation")
