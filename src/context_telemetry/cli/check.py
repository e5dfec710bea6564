"""`check`: looks at everything that consumers rely on, records what it found as serving does, and ends with a verdict.

One look is one entry operation, `check.run`. What is looked at is in `check_parts`, how it reads in `check_screen`, and
what was said before in `check_memory`. A sink that takes nothing changes no verdict.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final, Literal, NoReturn

from context_telemetry.cli import check_parts, check_screen, interrupts, progress
from context_telemetry.cli.check_memory import Memory
from context_telemetry.cli.check_parts import Asked, Compared, Part, Prompts
from context_telemetry.cli.place import PROJECT_VARIABLE, Place
from context_telemetry.cli.progress import Tell
from context_telemetry.cli.served_uses import recorded_uses
from context_telemetry.contract.impact import Recorded
from context_telemetry.conventions import names
from context_telemetry.instrumentation import DatafaceInstrumentor
from context_telemetry.instrumentation.commands import environment_context
from context_telemetry.instrumentation.instrumentor import installed_release
from context_telemetry.instrumentation.manifest_watch import ARTIFACT, identity_of
from context_telemetry.observe import failsafe, project
from context_telemetry.observe.operation import Operation, conclude_error
from context_telemetry.observe.surface import entry_surface
from context_telemetry.pipeline import auto
from context_telemetry.settings import is_disabled

Verdict = Literal["healthy", "unhealthy", "unknown"]
EXIT: Final[dict[Verdict, int]] = {"healthy": 0, "unhealthy": 1, "unknown": 3}

FLUSH_SECONDS: Final = 3.0
"""So long a sink may take to take what was found."""
_LEFT_SECONDS: Final = 0.3
"""What such a sink gets at the end, after it had its time."""
TOOLS_SECONDS: Final = 3600.0
"""After so long the MCP server is asked again by a check that stays."""

_STATE_VARIABLE: Final = "CONTEXT_TELEMETRY_STATE_DIR"


@dataclass(frozen=True)
class Options:
    """What is looked at, and how far back uses are counted (None: everything)."""

    since: float | None
    tools: bool = True
    prompts: bool = True


@dataclass(frozen=True)
class Checked:
    """One look."""

    place: Place
    options: Options
    at: float
    seconds: float
    parts: tuple[Part, ...]
    compared: Compared
    recorded: Recorded | None
    reasons: tuple[str, ...]
    trace_id: str | None
    delivered: bool | None
    """Whether the sink took what was recorded; None where nothing is recorded."""

    @property
    def verdict(self) -> Verdict:
        states = {part.state for part in self.parts}
        return "unhealthy" if "wrong" in states else "unknown" if "unknown" in states else "healthy"

    @property
    def exit_code(self) -> int:
        return EXIT[self.verdict]


def once(place: Place, options: Options, *, as_json: bool) -> int:
    """Look once and print it; the exit code."""
    with _observed(place):
        with progress.shown() as tell:
            checked = _looked(Checker(place, options, tell))
        pipeline = auto.current()
        if pipeline is not None and checked.delivered is False:
            pipeline.shutdown(_LEFT_SECONDS)
        if as_json:
            print(json.dumps(check_screen.document(checked), indent=2))
        else:
            check_screen.show(checked)
        return checked.exit_code


def every(place: Place, options: Options, seconds: float, *, as_json: bool) -> NoReturn:
    """Look again and again, ``seconds`` from start to start, a line each, until interrupted."""
    with _observed(place):
        checker = Checker(place, options)
        interrupts.leaves("the last look is above")
        due = time.monotonic()
        while True:
            checked = _looked(checker)
            line = json.dumps(check_screen.document(checked)) if as_json else check_screen.line(checked)
            print(line, flush=True)
            # A round that took longer skips those that it missed.
            due = max(due + seconds, time.monotonic())
            time.sleep(max(0.0, due - time.monotonic()))  # the pace that `--every` asks for


def _looked(checker: Checker) -> Checked:
    """A look; where it is we who fail, one that says so, for then nothing is known of the project."""
    at, began = time.time(), time.perf_counter()
    try:
        return checker.look()
    except Exception as error:
        failsafe.caught("check", error)
        return checker.nothing(error, at, time.perf_counter() - began)


@contextlib.contextmanager
def _observed(place: Place) -> Iterator[None]:
    """Record to where `run` would record; where recording is switched off, look all the same."""
    os.environ[PROJECT_VARIABLE] = str(place.root)
    os.environ[_STATE_VARIABLE] = str(place.folder.parent)
    # What an exporter says of each attempt: that nothing was delivered is told once, and by us.
    logging.getLogger("opentelemetry.exporter").addHandler(logging.NullHandler())
    if is_disabled() or place.settings.disabled:
        from opentelemetry._logs import NoOpLoggerProvider
        from opentelemetry.metrics import NoOpMeterProvider
        from opentelemetry.trace import NoOpTracerProvider

        DatafaceInstrumentor().instrument(
            skip_dep_check=True,
            tracer_provider=NoOpTracerProvider(),
            meter_provider=NoOpMeterProvider(),
            logger_provider=NoOpLoggerProvider(),
        )
    else:
        auto.activate(serves=False)
    project.opened(place.root, place.name)
    try:
        yield
    finally:
        auto.uninstrument()


class Checker:
    """Looks at one project, and keeps from look to look what need not be asked again."""

    def __init__(self, place: Place, options: Options, tell: Tell = progress.nobody) -> None:
        self._place, self._options, self._tell = place, options, tell
        self._memory = Memory(place.folder)
        self._prompts = Prompts()
        self._asked: tuple[Asked, object] | None = None
        self._told_undelivered = False

    def look(self) -> Checked:
        """One look, recorded and exported."""
        at, began = time.time(), time.perf_counter()
        context = environment_context()
        entry = Operation("check.run", surface=entry_surface("cli", context), context=context)
        entry.attach()
        try:
            parts, compared, recorded = self._look(entry)
        except BaseException as error:
            conclude_error(entry, error)
            raise
        finally:
            entry.finish()
            entry.detach()
        self._memory.settle(_known(parts, compared))
        delivered = self._deliver()
        if delivered is False:
            self._memory.drop()
        elif not (is_disabled() or self._place.settings.disabled):
            self._memory.keep()
        span = entry.span.get_span_context()
        return Checked(
            self._place,
            self._options,
            at,
            time.perf_counter() - began,
            tuple(parts),
            compared,
            recorded,
            tuple(sorted({*entry.reasons, *entry.risen})),
            format(span.trace_id, "032x") if span.is_valid else None,
            delivered,
        )

    def nothing(self, error: Exception, at: float, seconds: float) -> Checked:
        """A look that ended with an error of ours."""
        parts = (_unlooked("contract", error),)
        return Checked(self._place, self._options, at, seconds, parts, Compared(parts), None, (), None, None)

    def _look(self, entry: Operation) -> tuple[list[Part], Compared, Recorded | None]:
        place, options, tell = self._place, self._options, self._tell
        release = installed_release()
        key = (release, identity_of(place.root / "dataface.yml"))
        answer = check_parts.ask(place.root) if options.tools and self._is_due(key) else None
        tell("the manifest")
        manifest = _each("manifest", lambda: check_parts.manifest(place.root))
        prompt = [Part("prompt", "prompt", "absent", "not looked at (--no-prompts)")]
        if options.prompts:
            tell("the agent's prompt")
            prompt = _each("prompt", lambda: [self._prompts.look(entry, place.root, release)])
        if answer is not None:
            tell("MCP tools")
            self._asked = answer(), key
        if self._asked is None:
            tools = Part("tools", "tools", "absent", "not asked (--no-tools)")
        else:
            tools = check_parts.tools(self._asked[0], new=answer is not None)
        recorded = recorded_uses(place.folder, options.since)
        listed = self._asked[0].listed if self._asked else None
        try:
            compared = check_parts.compare(place, listed, recorded, tell)
        except Exception as error:
            failsafe.caught("check.compare", error)
            compared = Compared((_unlooked("contract", error),))
        parts = [*manifest, *compared.parts, *prompt, tools]
        _conclude(entry, parts)
        if compared.comparison is not None:
            self._memory.say(compared.comparison)
        return parts, compared, recorded

    def _is_due(self, key: object) -> bool:
        if self._asked is None or self._asked[0].listed.error is not None:
            return True
        asked, former = self._asked
        return former != key or time.time() - asked.at >= TOOLS_SECONDS

    def _deliver(self) -> bool | None:
        """Export what was recorded; told once, where a sink begins to take nothing."""
        pipeline = auto.current()
        if pipeline is None:
            return None
        before = sum(failsafe.drops().values())
        in_time = pipeline.flush(FLUSH_SECONDS)
        delivered = in_time and sum(failsafe.drops().values()) == before
        if not delivered and not self._told_undelivered:
            where = "the Collector" if pipeline.mode == "otlp" else str(pipeline.folder)
            failsafe.warn(
                f"what was found could not be delivered to {where} within {FLUSH_SECONDS:.0f} s; it is told here alone"
            )
        self._told_undelivered = not delivered
        return delivered


def _each(kind: check_parts.Kind, look: Callable[[], list[Part]]) -> list[Part]:
    """The parts, or one that says why they could not be looked at."""
    try:
        return look()
    except Exception as error:
        failsafe.caught(f"check.{kind}", error)
        return [_unlooked(kind, error)]


def _unlooked(kind: check_parts.Kind, error: Exception) -> Part:
    name = type(error).__name__
    return Part(kind, kind, "unknown", f"could not be looked at: {name}", error_type=name)


def _conclude(entry: Operation, parts: list[Part]) -> None:
    """What is wrong has its reason on the entry; what has none is a failure of its class."""
    for part in parts:
        if part.kind in ("faces", "contract", "drift") and part.reasons:
            entry.degraded(*part.reasons)
    nameless = [part for part in parts if part.error_type and not part.reasons]
    if nameless:
        entry.failed(nameless[0].error_type or "_OTHER")


_TOOLS: Final = ("tool ", "resource ")
"""How the objects of a contract begin that only an MCP server can tell of."""


def _known(parts: list[Part], compared: Compared) -> Callable[[str, str], bool]:
    """Whether a look could have met a reason about an object, so that it is over where it was not met."""
    comparison = compared.comparison
    looked = {part.kind for part in parts if part.state in ("ok", "wrong")}

    def is_known(reason: str, what: str) -> bool:
        if what in names.PAYLOAD_KINDS:
            return ("tools" if what == "tool_list" else "prompt") in looked
        if what == ARTIFACT or reason == "enrichment_lost":  # models are named, too
            return all(part.state != "unknown" for part in parts if part.kind == "manifest")
        if comparison is None:
            return False
        if what == "check.run" and reason == "face_unreadable":
            return True
        if what == "check.run":
            # It is about all sources, and of the contract about all parts.
            whole = reason != "contract_broken" or _is_whole(compared)
            return whole and not comparison.unread and comparison.problem is None
        if reason == "contract_broken" and comparison.accepted and what.startswith(_TOOLS):
            return "tools" in comparison.open
        if reason == "contract_broken" and comparison.problem is not None:
            return False
        if reason == "schema_drift" and comparison.drift is None and comparison.manifest_problem is not None:
            return False
        return what.partition(".")[0] not in comparison.unread or reason == "layer_unavailable"

    return is_known


def _is_whole(compared: Compared) -> bool:
    """Whether tools and resources were compared, where the contract has any."""
    if compared.report is None or compared.comparison is None:
        return True
    contract = compared.report.accepted.contract
    return (contract.tools, contract.resources) == (None, None) or "tools" in compared.comparison.open
