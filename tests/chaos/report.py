"""A run told as text, and as figures for a file."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any, Final

from tests.chaos import history
from tests.chaos.run import Found
from tests.chaos.trouble import spans
from tests.chaos.verdict import final_states

#: How long after an outage of all workers, beat, Redis or Postgres a recovery still counts as
#: disturbed: a process needs about this long until it works.
_BACK_SECONDS: Final = 5.0
#: Sentences that are shown of each kind of fault; all are in the file.
_SHOWN: Final = 8


def figures(found: Found) -> dict[str, Any]:
    """Returns all figures of a run, and everything that is wrong, as JSON."""
    size, past, kills = found.plan.size, found.past, found.kills
    holding = [kill for kill in kills if kill.taken_over]
    calm = history.undisturbed(holding, spans(past.done, back_after=_BACK_SECONDS))
    late = [
        -change.left_of_old_lease
        for change in found.claims
        if change.left_of_old_lease is not None and change.left_of_old_lease < 0
    ]
    failed = Counter(
        job.error_code for job in found.evidence.jobs if job.state == "failed" and job.error_code
    )
    made, undone, most, most_undo = found.attempts
    return {
        "seed": found.plan.seed,
        "size": size.name,
        "seconds_of_faults": round(past.seconds, 1),
        "settings": dict(size.settings),
        "workers": size.workers,
        "threads_per_worker": size.threads,
        "jobs": len(found.evidence.jobs),
        "final_states": final_states(found.evidence.jobs),
        "failed_by_code": dict(sorted(failed.items())),
        "attempts": {"steps": made, "undos": undone, "most": most, "most_of_an_undo": most_undo},
        "requests": {"sent": found.errands.requests, "asked_again": found.errands.unanswered},
        "faults": dict(sorted(Counter(one.kind for one in past.done if not one.problem).items())),
        "faults_not_done": [f"{one.kind}: {one.problem}" for one in past.done if one.problem],
        "faults_left_out": len(found.plan.faults) - len(past.done),
        "started_again_by_the_supervisor": dict(sorted(found.restarts.items())),
        "recovery_seconds": {
            "kills_of_workers": len(kills),
            "that_held_jobs": len(holding),
            "jobs_held": sum(len(kill.taken_over) for kill in kills),
            "all": history.spread([kill.seconds for kill in holding if kill.seconds]),
            "undisturbed": history.spread([kill.seconds for kill in calm if kill.seconds]),
            "undisturbed_kills": len(calm),
            "claim_after_lease_ran_out": history.spread(late),
        },
        "calls": {
            "made": past.calls,
            "hurt": past.calls_hurt,
            "share": round(past.calls_hurt / max(past.calls, 1), 4),
            "by_fault": dict(sorted(past.calls_by_fault.items())),
        },
        "settled_seconds": round(past.settled_seconds, 1),
        "stuck_before_retry": past.stuck,
        "retried_after": len(past.retried),
        "settled_after_retry_seconds": round(past.settled_again_seconds, 1),
        "silent_workers": past.silent_workers,
        "rings": found.rings,
        "notifications_received": found.notified,
        "refused_by_the_api": dict(
            sorted(sum((errand.refused for errand in found.errands.all), Counter[str]()).items())
        ),
        "wrong": found.wrong,
        "passed": passed(found),
    }


def passed(found: Found) -> bool:
    """Whether every promise was kept, and enough was done to say so."""
    return not any(found.wrong.values())


def told(figure: Mapping[str, Any]) -> str:
    """Returns the figures for a person."""
    return "\n".join(_lines(figure)) + "\n"


def _lines(figure: Mapping[str, Any]) -> Iterator[str]:
    yield (
        f"\nseed {figure['seed']}, {figure['size']}: "
        f"{figure['seconds_of_faults']:.0f} s of faults, "
        f"{figure['workers']} workers of {figure['threads_per_worker']} threads"
    )
    yield _row("settings that are not the defaults", _pairs(figure["settings"]))
    yield _row("jobs", figure["jobs"])
    for kind, states in figure["final_states"].items():
        yield _row(f"  {kind}", _pairs(states))
    yield _row("failed with", _pairs(figure["failed_by_code"]))
    yield _row("attempts", _pairs(figure["attempts"]))
    yield _row("requests to the API", _pairs(figure["requests"]))
    yield _row("refused by the API", _pairs(figure["refused_by_the_api"]))
    yield _row("faults", _pairs(figure["faults"]))
    if figure["faults_not_done"]:
        yield _row("  not done, the part was down", len(figure["faults_not_done"]))
    if figure["faults_left_out"]:
        yield _row("  left out, the time was up", figure["faults_left_out"])
    yield _row("started again by the supervisor", _pairs(figure["started_again_by_the_supervisor"]))
    recovery = figure["recovery_seconds"]
    yield _row(
        "kills of a worker",
        f"{recovery['kills_of_workers']}, {recovery['that_held_jobs']} of them held jobs, "
        f"{recovery['jobs_held']} in all",
    )
    yield "from a kill until the last of its jobs was claimed again, or final:"
    yield _row("  all kills", _spread(recovery["all"]))
    yield _row(
        f"  {recovery['undisturbed_kills']} while all else was up",
        _spread(recovery["undisturbed"]),
    )
    yield _row(
        "  from the end of a lease to the claim", _spread(recovery["claim_after_lease_ran_out"])
    )
    calls = figure["calls"]
    yield _row("outside calls", f"{calls['made']}, hurt {calls['hurt']} ({calls['share']:.1%})")
    yield _row("  by fault", _pairs(calls["by_fault"]))
    yield _row("all final after the faults", f"{figure['settled_seconds']} s")
    yield _row(
        "retried then",
        f"{len(figure['stuck_before_retry'])} stuck and {figure['retried_after']} failed jobs; "
        f"all final after {figure['settled_after_retry_seconds']} s",
    )
    if figure["silent_workers"]:
        yield _row("workers that lived and did not answer", ", ".join(figure["silent_workers"]))
    yield _row("active numbers called", figure["rings"])
    yield _row("notifications received", figure["notifications_received"])
    yield ""
    for name, sentences in figure["wrong"].items():
        yield _row(name.replace("_", " "), len(sentences))
        yield from (f"    {sentence}" for sentence in sentences[:_SHOWN])
        if len(sentences) > _SHOWN:
            yield f"    and {len(sentences) - _SHOWN} more"
    yield ""
    yield "passed" if figure["passed"] else "FAILED"


def _row(name: str, value: object) -> str:
    return f"{name:<40}{value}"


def _pairs(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in values.items()) or "-"


def _spread(values: Mapping[str, float] | None) -> str:
    return "-" if values is None else f"median {values['median']} s, max {values['max']} s"
