"""`podstream`: the command line. Each subject is a module of `streams/cli/commands/`.

A module has ``register(app: typer.Typer) -> None`` and imports what is heavy (faust, pyspark,
torch, pymongo) inside its commands, so that `podstream --help` answers at once.
"""

from __future__ import annotations

from importlib import import_module

import typer

COMMAND_MODULES = (
    "instance",
    "monitoring",
    "graph",
    "dead_letters",
    "data",
    "inspect",
    "simulate",
    "recommend",
    "model",
    "forget",
    "rebuild",
    "versions",
    "snapshots",
    "verify",
    "smoke",
)
"""Modules of `streams/cli/commands/`, in the order of `--help`."""


def build_app() -> typer.Typer:
    """The command line with every command registered."""
    app = typer.Typer(
        name="podstream",
        help="Live podcast recommendations: Kafka, Faust, Spark, Delta and MongoDB.",
        no_args_is_help=True,
        pretty_exceptions_enable=False,  # a traceback with local variables may show secrets
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    for name in COMMAND_MODULES:
        import_module(f"streams.cli.commands.{name}").register(app)
    return app


def main() -> None:
    """Entry point of `podstream`."""
    from streams.kafka.entry import refusals_as_sentences

    with refusals_as_sentences():
        build_app()()


if __name__ == "__main__":
    main()
