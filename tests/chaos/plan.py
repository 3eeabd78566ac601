"""What a run will do, and when: a pure function of its size and seed.

What it meets is not: which call of which attempt is hurt depends on how processes interleave. Two
runs of one seed submit, cancel, release and kill the same things at the same moments.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from tests.rig import FAST

PROVIDERS: Final = ("twilio", "telnyx", "plivo", "sip")
#: The provider that knows only one.
MODES: Final = dict.fromkeys(PROVIDERS, ("webhook", "sip_trunk")) | {"sip": ("sip_trunk",)}
#: What is asked for. `full`: an agent, where calls may be redirected a fallback agent, SMS, and
#: outbound calls through the provider. `login`: outbound calls by a SIP login of the caller's, and
#: a PIN.
SHAPES: Final = ("full", "login")

#: Fate → its share in the imports. The rest is `plain`: nothing but the trouble stands in its way.
FATES: Final[Mapping[str, float]] = {
    "refused": 0.07,  # the vendor refuses the write that moves voice
    "not_owned": 0.04,  # the account does not hold the number
    "wrong_credentials": 0.04,
    "in_use": 0.03,  # the number is routed, and replacing that was not asked for
}

#: Action of the sandbox → the share of calls that it hurts: a fifth in all.
CALLS_HURT: Final[tuple[tuple[float, Mapping[str, Any]], ...]] = (
    (0.030, {"action": "status", "status": 503}),
    (0.020, {"action": "status", "status": 500}),
    (0.015, {"action": "status", "status": 429}),
    (0.015, {"action": "status", "status": 429, "retry_after": 2}),
    (0.030, {"action": "cut"}),
    (0.015, {"action": "garbage"}),
    (0.010, {"action": "empty"}),
    (0.025, {"action": "lost"}),
    (0.020, {"action": "lost_status", "status": 500}),
    (0.020, {"action": "delay"}),  # longer than the client waits, so that the write lands later
)


@dataclass(frozen=True, kw_only=True)
class Size:
    """How much of it, for how long, under which settings."""

    name: str
    imports: int
    #: For how long things are submitted and hurt; longer if a busy machine is not done by then.
    seconds: float
    #: Kind of fault → seconds from one to the next, on average.
    every: Mapping[str, float]
    #: For how long Redis is down when it is stopped.
    redis_down_seconds: float
    #: After the trouble everything must have ended within this time, and again after the retries.
    settle_seconds: float
    #: Fewer than these prove nothing.
    least_imports: int
    least_releases: int
    #: Outside calls that were hurt.
    least_hurt: int
    workers: int = 3
    threads: int = 24
    settings: Mapping[str, str]
    shapes: tuple[str, ...] = SHAPES
    #: Longer than the read timeout, and the write still lands within the time to settle.
    delay_seconds: float


#: Retries come four times as fast as in production, so that an import makes several attempts within
#: the run. Leases, heartbeat, sweep, timeouts and the time to settle are the defaults.
_FULL: Final = {"TRUNKLINE_RETRY_SCALE": "0.25"}
_EVERY: Final[Mapping[str, float]] = {
    "worker killed": 8,
    "all workers killed": 60,
    "worker restarted": 75,
    "api killed": 40,
    "beat killed": 40,
    "redis emptied": 45,
    "redis restarted": 75,
    "redis killed": 100,
    "redis stopped": 150,
    "postgres restarted": 100,
    "postgres killed": 100,
    "messages doubled": 15,
}
SIZES: Final = {
    size.name: size
    for size in (
        Size(
            name="full",
            imports=640,
            seconds=330,
            every=_EVERY,
            redis_down_seconds=20,
            # The longest wait between two attempts at an undo (300 s, scaled), and the attempts.
            settle_seconds=150,
            least_imports=500,
            least_releases=100,
            # What a slow machine gets to in the time: 2,176 and 1,970 were seen of 10,000 calls.
            least_hurt=1500,
            settings=_FULL,
            delay_seconds=6,
        ),
        Size(
            name="minute",
            imports=130,
            seconds=60,
            every={kind: max(seconds / 2, 8) for kind, seconds in _EVERY.items()},
            redis_down_seconds=10,
            settle_seconds=150,
            least_imports=100,
            least_releases=12,
            least_hurt=200,
            settings=_FULL,
            delay_seconds=6,
        ),
        Size(
            name="short",
            imports=21,
            seconds=12,
            # Each start of a process costs seconds of CPU, so workers are killed but not restarted.
            every={kind: 12 for kind in _EVERY if kind != "worker restarted"},
            redis_down_seconds=2,
            settle_seconds=150,
            least_imports=28,  # the quiet ones count
            least_releases=2,
            least_hurt=10,
            workers=2,
            threads=16,
            settings=FAST,
            shapes=("full",),
            delay_seconds=1.3,
        ),
    )
}

#: Kinds of faults that must not overlap: each lane does one after the other.
LANES: Final[Mapping[str, tuple[str, ...]]] = {
    "workers": ("worker killed", "all workers killed", "worker restarted"),
    "api": ("api killed",),
    "beat": ("beat killed",),
    "redis": ("redis emptied", "redis restarted", "redis killed", "redis stopped"),
    "postgres": ("postgres restarted", "postgres killed"),
    "messages": ("messages doubled",),
}
assert {kind for lane in LANES.values() for kind in lane} == _EVERY.keys(), "a kind without a lane"


@dataclass(frozen=True, kw_only=True)
class Planned:
    """One import and everything that its owner will do to it."""

    serial: int
    #: Seconds after the start; negative is before any trouble.
    at: float
    provider: str
    mode: str
    shape: str
    fate: str = "plain"
    #: The import, of the same provider, whose account it shares; its own serial for its own.
    shares_with: int
    #: The request is sent a second time with its Idempotency-Key, at the same moment and later.
    twice: bool = False
    cancel_after: float | None = None
    #: An operator retries it if it fails or is cancelled; of a refused one the cause is gone then.
    retry_after: float | None = None
    #: What is done once it is active: rebind, repair, release; with the seconds before each.
    then: tuple[tuple[str, float], ...] = ()
    #: Whether a callback_url is to be told.
    callback: bool = False

    @property
    def kind(self) -> tuple[str, str, str]:
        """Imports of one kind make the same objects."""
        return self.provider, self.mode, self.shape


@dataclass(frozen=True, kw_only=True)
class Fault:
    """One blow to the stack."""

    at: float
    kind: str
    #: Which worker, or whatever else the kind leaves open: 0 ≤ choice < 1.
    choice: float


@dataclass(frozen=True, kw_only=True)
class Plan:
    """A whole run."""

    seed: int
    size: Size
    #: One of each kind, done before the trouble begins: what an import makes undisturbed.
    quiet: tuple[Planned, ...]
    imports: tuple[Planned, ...]
    faults: tuple[Fault, ...]
    calls: tuple[Mapping[str, Any], ...]
    pin: str


def plan_of(seed: int, size: Size) -> Plan:
    """Returns the plan of a seed."""
    kinds = [
        (provider, mode, shape)
        for provider in PROVIDERS
        for mode in MODES[provider]
        for shape in size.shapes
    ]
    quiet = tuple(
        Planned(serial=place, at=-1, provider=provider, mode=mode, shape=shape, shares_with=place)
        for place, (provider, mode, shape) in enumerate(kinds, start=1)
    )
    return Plan(
        seed=seed,
        size=size,
        quiet=quiet,
        imports=_imports(_dice(seed, "imports"), size, kinds),
        faults=_faults(_dice(seed, "faults"), size),
        calls=tuple(calls_hurt(seed, size.delay_seconds)),
        pin=f"90{_dice(seed, 'pin').randrange(10**8):08}",
    )


def _dice(seed: int, what: str) -> random.Random:
    return random.Random(f"{seed} {what}")  # noqa: S311 -- repeatable, not secret


def calls_hurt(seed: int, delay_seconds: float) -> list[dict[str, Any]]:
    """Returns the sandbox's faults that hurt, together, exactly the shares of `CALLS_HURT`.

    Each fault throws its own dice on every call. For the shares to add up, each must be the
    likelier the less the ones before it have left.
    """
    faults, left = [], 1.0
    for place, (share, fault) in enumerate(CALLS_HURT):
        seconds = {"seconds": delay_seconds} if fault["action"] == "delay" else {}
        probability = share / left
        left -= share
        faults.append(
            {
                **fault,
                **seconds,
                "probability": probability,
                "times": None,
                "seed": seed * 100 + place,
            }
        )
    return faults


def _imports(
    dice: random.Random, size: Size, kinds: list[tuple[str, str, str]]
) -> tuple[Planned, ...]:
    planned: list[Planned] = []
    #: Provider → the first import of an account that others share, and how many places are left.
    shared: dict[str, tuple[int, int]] = {}
    for place in range(size.imports):
        serial = place + 101
        provider, mode, shape = kinds[place % len(kinds)]
        # A SIP carrier cannot be asked, so nothing can go wrong there.
        fate = "plain" if provider == "sip" else _fate(dice)
        at = dice.uniform(0, 0.85 * size.seconds)
        shares_with = serial
        if fate == "plain" and dice.random() < 0.25:
            first, places = shared.get(provider, (serial, 4))
            shares_with = first
            shared[provider] = (first, places - 1)
            if places == 1:
                del shared[provider]
        cancelled = fate == "plain" and dice.random() < 0.12
        planned.append(
            Planned(
                serial=serial,
                at=round(at, 3),
                provider=provider,
                mode=mode,
                shape=shape,
                fate=fate,
                shares_with=shares_with,
                twice=dice.random() < 0.15,
                cancel_after=round(dice.uniform(0, size.seconds / 30), 3) if cancelled else None,
                retry_after=round(dice.uniform(0, 5), 3) if dice.random() < 0.3 else None,
                then=() if cancelled else _then(dice, at / size.seconds),
                callback=dice.random() < 0.15,
            )
        )
    return tuple(planned)


def _fate(dice: random.Random) -> str:
    drawn = dice.random()
    for fate, share in FATES.items():
        if drawn < share:
            return fate
        drawn -= share
    return "plain"


def _then(dice: random.Random, when: float) -> tuple[tuple[str, float], ...]:
    """Whoever comes early is released under trouble; some are changed before."""
    steps = []
    if dice.random() < 0.15:
        steps.append(dice.choice(("rebind", "repair")))
    if when < 0.6 and dice.random() < 0.6:
        steps.append("release")
    return tuple((step, round(dice.uniform(0, 3), 3)) for step in steps)


def _faults(dice: random.Random, size: Size) -> tuple[Fault, ...]:
    faults = []
    for kind, period in sorted(size.every.items()):
        times = max(1, round(size.seconds / period))
        for place in range(times):
            # One in each of as many spans of the same length, somewhere in it.
            at = size.seconds * (place + dice.uniform(0.05, 0.95)) / times
            faults.append(Fault(at=round(at, 3), kind=kind, choice=dice.random()))
    return tuple(sorted(faults, key=lambda fault: fault.at))
