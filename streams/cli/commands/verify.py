"""`podstream verify`: independent ways to the same numbers, compared."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from streams.operations.verify import Report, Verifier


MOST_SHOWN = 20
"""Violations of one check that are printed; `--json` has all."""


def register(app: typer.Typer) -> None:
    """Add the command to ``app``."""
    app.command()(verify)


def verify(
    watch: Annotated[
        bool, typer.Option("--watch", help="Go on with samples until stopped.")
    ] = False,
    every: Annotated[
        float, typer.Option(min=1.0, help="Seconds from one round of --watch to the next.")
    ] = 300.0,
    seed: Annotated[int | None, typer.Option(help="Draw the samples that this number gives.")] = (
        None
    ),
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Compare minutes, days, Delta and a recount of the raw log; exit 1 if any number differs.

    A number that differs is printed with its key. With --watch a sample is compared in each round,
    and what is found is told to Prometheus where METRICS_PORT is set.
    """
    import random

    from streams.operations.verify import Verifier
    from topology.settings import get_settings

    settings = get_settings()
    verifier = Verifier(settings, random.Random(seed))
    with _errors_as_sentences():
        try:
            if watch:
                _watch(verifier, every)
                return
            findings = verifier.run()
        finally:
            verifier.close()
    _report(findings, as_json)
    if any(found.violations for found in findings):
        raise typer.Exit(1)


def _report(findings: Report, as_json: bool) -> None:
    import json
    from dataclasses import asdict

    if as_json:
        typer.echo(json.dumps([asdict(found) for found in findings], indent=2))
        return
    for found in findings:
        verdict = f"{len(found.violations):,} DIFFER" if found.violations else "none differs"
        typer.echo(f"{found.check}: {found.compared:,} numbers compared, {verdict}")
        for violation in found.violations[:MOST_SHOWN]:
            typer.echo(f"  {violation.sentence()}")


def _watch(verifier: Verifier, every_s: float) -> None:
    """Compare a sample in each round until SIGTERM or SIGINT."""
    import logging
    import signal
    import threading
    import time

    from confluent_kafka import KafkaException
    from pymongo.errors import PyMongoError

    from streams.monitoring.instruments import counter, family, measured
    from streams.monitoring.logs import set_up_logs
    from streams.monitoring.server import serve
    from streams.operations.verify import CHECKS, VerifyError
    from topology.monitoring.metrics import VERIFY_COMPARED, VERIFY_ROUND, VERIFY_VIOLATIONS
    from topology.settings import get_settings

    log = logging.getLogger(__name__)
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    set_up_logs(get_settings(), "verify")
    done = [time.time()]
    for check in CHECKS:
        counter(VERIFY_COMPARED).labels(check)
        counter(VERIFY_VIOLATIONS).labels(check)
    measured(lambda: [family(VERIFY_ROUND, {(): done[0]})])
    serve(get_settings(), "verify")
    while not stop.is_set():
        try:
            findings = verifier.round()
        except (KafkaException, PyMongoError, VerifyError, OSError) as error:
            log.warning("no round was done: %s", error)
            findings = []
        else:
            done[0] = time.time()
        for found in findings:
            counter(VERIFY_COMPARED).labels(found.check).inc(found.compared)
            counter(VERIFY_VIOLATIONS).labels(found.check).inc(len(found.violations))
            for violation in found.violations:
                log.error("%s", violation.sentence())
        stop.wait(every_s)


@contextmanager
def _errors_as_sentences() -> Iterator[None]:
    from confluent_kafka import KafkaException
    from pymongo.errors import PyMongoError

    from streams.operations.verify import VerifyError

    try:
        yield
    except VerifyError as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(2) from None
    except (KafkaException, PyMongoError) as error:
        typer.echo(f"A service does not answer ({error}). `podstream up` starts them.", err=True)
        raise typer.Exit(2) from None
