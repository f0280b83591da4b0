"""The fault matrix itself: every fault, how often it is promised to be survived, and the fleet that it needs."""

import dataclasses
import typing

from fleet import Fleet

from . import log, memory, routers, silence, tables, warehouse, workers


@dataclasses.dataclass
class Fault:
    name: str
    # How often this has to be survived; questions for the tables, seconds for `log-down`.
    promised: int
    run: typing.Callable
    # How often it's tried in `make test`, if at all.
    short: int = 0
    routers: int = 1
    settings: str = ""
    worker_settings: str = ""

    def trials(self, factor):
        return max(3, round(self.promised * factor))

    def tried(self, folder, data, trials):
        """The row that comes of it."""
        fleet = Fleet(folder, data, routers=self.routers, settings=self.settings, worker_settings=self.worker_settings)
        try:
            return self.run(fleet, trials)
        except Exception as error:
            error.add_note(fleet.router.stderr()[-300:])
            raise
        finally:
            fleet.end()


def drain(seconds):
    """A little less than the notice."""
    return f"[limits]\ndrain_seconds = {seconds * 5 // 6}\n"


FAULTS = [
    Fault("kill-first-byte", 3000, workers.killed_before_the_first_byte, short=3),
    Fault("kill-within-buffer", 1000, workers.killed_within_the_buffer, short=2),
    Fault("kill-beyond-buffer", 1000, workers.killed_beyond_the_buffer, short=2),
    Fault("stop", 300, silence.stopped, short=1),
    Fault("black-hole", 300, silence.black_hole, short=1),
    Fault("lost-connection", 100, silence.lost_connection),
    Fault("breaker", 300, silence.breaker),
    Fault("spot-120", 200, workers.spot_notice(120), worker_settings=drain(120)),
    Fault("spot-30", 200, workers.spot_notice(30), short=2, worker_settings=drain(30)),
    Fault("router-rolling", 100, routers.rolling, short=2, routers=2),
    Fault("router-kill", 300, routers.router_killed, short=2),
    Fault("cancel", 2000, workers.cancelled, short=3),
    Fault("client-vanishes", 500, memory.client_vanishes, short=2),
    Fault("slow-reader", 100, memory.slow_reader, short=2),
    Fault("out-of-memory", 200, memory.out_of_memory, short=1, settings=memory.UNHURRIED),
    Fault("out-of-memory-warehouse", 200, memory.escalated, short=1),
    Fault("delta-commit", 500, tables.commits, short=60),
    Fault("vacuum", 500, tables.vacuum, short=60),
    Fault("databricks-busy", 300, warehouse.busy, short=7),
    Fault("overload", 300, routers.overload, short=1, settings=f"[limits]\nqueue_max = {routers.QUEUE_MAX}\n"),
    Fault("log-outages", 20, log.short_outages, short=1),
    Fault("log-down", 6000, log.long_outage),
]
