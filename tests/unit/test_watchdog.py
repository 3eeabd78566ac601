"""When a worker counts as one that takes no more work."""

from __future__ import annotations

import os
from pathlib import Path

from worker.watchdog import LOOKS, Watchdog


class Bench:
    """A watchdog, a broker that can be away, and what they did to each other."""

    def __init__(self, *, places: int = 2, pulse_file: Path | None = None) -> None:
        self.broker_is_up = True
        self.pulses = 0
        self.stalls = 0
        self.watchdog = Watchdog(
            places=places,
            send_pulse=self._send,
            on_stall=self._stall,
            pulse_file=pulse_file,
        )

    def _send(self) -> bool:
        self.pulses += self.broker_is_up
        return self.broker_is_up

    def _stall(self) -> None:
        self.stalls += 1

    def look(self, times: int) -> None:
        for _ in range(times):
            self.watchdog.tick()


def test_a_worker_that_begins_nothing_is_stalled_after_as_many_looks_as_it_has_patience() -> None:
    bench = Bench()
    bench.look(LOOKS)
    assert bench.stalls == 0
    bench.look(1)
    assert bench.stalls == 1


def test_a_pulse_that_arrives_shows_that_all_is_well() -> None:
    bench = Bench()
    for look in range(10 * LOOKS):
        pulses = bench.pulses
        bench.look(1)
        if bench.pulses > pulses:
            bench.watchdog.began(f"pulse-{look}")
            bench.watchdog.ended(f"pulse-{look}")
    assert bench.stalls == 0


def test_who_has_work_is_sent_no_pulse() -> None:
    bench = Bench()
    for look in range(10 * LOOKS):
        bench.watchdog.began(f"step-{look}")
        bench.watchdog.ended(f"step-{look}")
        bench.look(1)
    assert (bench.pulses, bench.stalls) == (0, 0)


def test_a_worker_whose_every_place_is_taken_may_be_so_for_ever() -> None:
    bench = Bench(places=2)
    bench.watchdog.began("one")
    bench.watchdog.began("two")
    bench.look(10 * LOOKS)
    assert (bench.pulses, bench.stalls) == (0, 0)


def test_work_that_goes_on_hides_no_stall_while_a_place_is_free() -> None:
    bench = Bench(places=2)
    bench.watchdog.began("long")
    bench.look(LOOKS + 2)
    assert bench.stalls == 1


def test_a_broker_that_is_away_is_not_the_workers_fault() -> None:
    bench = Bench()
    bench.broker_is_up = False
    bench.look(10 * LOOKS)
    assert bench.stalls == 0


def test_after_an_outage_the_worker_has_all_its_time_again() -> None:
    bench = Bench()
    bench.look(LOOKS)
    bench.broker_is_up = False
    bench.look(1)
    bench.broker_is_up = True
    bench.look(LOOKS)
    assert bench.stalls == 0
    bench.look(1)
    assert bench.stalls == 1


def test_the_pulse_file_grows_old_when_the_worker_stalls(tmp_path: Path) -> None:
    pulse_file = tmp_path / "pulse"
    bench = Bench(pulse_file=pulse_file)
    bench.look(LOOKS)
    os.utime(pulse_file, (0, 0))
    bench.look(1)
    assert pulse_file.stat().st_mtime == 0


def test_the_pulse_file_stays_young_while_the_broker_is_away(tmp_path: Path) -> None:
    pulse_file = tmp_path / "pulse"
    bench = Bench(pulse_file=pulse_file)
    bench.broker_is_up = False
    bench.look(1)
    os.utime(pulse_file, (0, 0))
    bench.look(1)
    assert pulse_file.stat().st_mtime > 0
