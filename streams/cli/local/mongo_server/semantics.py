"""What filters, updates, projections and pipelines mean, by mongomock, a document at a time."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import mongomock
import mongomock.aggregate
import mongomock.filtering
from bson import Regex
from pymongo.errors import PyMongoError

from streams.cli.local.mongo_server import errors
from streams.cli.local.mongo_server.documents import Document
from streams.cli.local.mongo_server.errors import CommandError

# Parts of mongomock that have no types.
_applies: Callable[[Any, Document], bool] = mongomock.filtering.filter_applies
_sort_key: Callable[[str, Document], Any] = mongomock.filtering.resolve_sort_key
_pipeline: Callable[..., Iterable[Document]] = mongomock.aggregate.process_pipeline

_FOREIGN = {"$lookup": "from", "$graphLookup": "from", "$unionWith": "coll"}
"""Stages that read other collections, and where they name them."""


def readable(value: Any) -> Any:
    """The same with regular expressions that Python can use."""
    if isinstance(value, Regex):
        return _pattern(value)
    if isinstance(value, Mapping):
        return {name: readable(each) for name, each in value.items()}
    return [readable(each) for each in value] if isinstance(value, list) else value


def matcher(wanted: Document) -> Callable[[Document], bool]:
    """Whether a document matches a filter."""
    wanted = readable(wanted)

    def matches(document: Document) -> bool:
        with _refused():
            return _applies(wanted, document)

    return matches


def sort_keys(path: str) -> Callable[[Document], Any]:
    """What documents are sorted by, for one field."""
    return lambda document: _sort_key(path, document)


def updated(
    document: Document, wanted: Document, update: Document, array_filters: Sequence[Document] | None
) -> Document:
    """A document after an update with operators. ``wanted``: the filter that has found it."""
    collection = _collection_of([document])
    with _refused():
        # By its id, unless the update says `$`, the item that the filter has found.
        by = wanted if ".$" in repr(update) else {"_id": document["_id"]}
        collection.update_one(readable(by), readable(update), array_filters=array_filters)
        (changed,) = collection.find()
    return dict(changed)


def upserted(wanted: Document, update: Document) -> Document:
    """The document that an update makes where its filter finds none."""
    collection = _collection_of([])
    with _refused():
        collection.update_one(readable(wanted), readable(update), upsert=True)
        (made,) = collection.find()
    return dict(made)


def projected(documents: Iterable[Document], projection: Document) -> Iterator[Document]:
    """Documents with the fields that a projection asks for."""
    including = {name for name, wish in projection.items() if name != "_id" and wish in (1, True)}
    simple = all(wish in (0, 1) and "." not in name for name, wish in projection.items())
    if simple and (including or set(projection) == {"_id"}):
        if projection.get("_id", 1):
            including.add("_id")
        elif not including:
            for document in documents:
                yield {name: value for name, value in document.items() if name != "_id"}
            return
        for document in documents:
            yield {name: value for name, value in document.items() if name in including}
        return
    for document in documents:
        with _refused():
            (shown,) = _collection_of([document]).find({}, projection)
        yield dict(shown)


def aggregated(
    documents: Iterable[Document],
    pipeline: Sequence[Document],
    others: Callable[[str], Iterable[Document]],
) -> Iterator[Document]:
    """What a pipeline makes of documents. ``others``: the documents of a collection by name."""
    database: Any = mongomock.MongoClient()["database"]
    for stage in pipeline:
        for operator, options in stage.items():
            if operator in _FOREIGN:
                name = options if isinstance(options, str) else options[_FOREIGN[operator]]
                _fill(database[name], others(name))
    with _refused():
        yield from _pipeline(list(documents), database, readable(pipeline), None)


def _collection_of(documents: Iterable[Document]) -> Any:
    return _fill(mongomock.MongoClient()["database"]["collection"], documents)


def _fill(collection: Any, documents: Iterable[Document]) -> Any:
    with _refused():
        for document in documents:
            collection.insert_one(document)
    return collection


def _pattern(regex: Regex[str]) -> re.Pattern[str]:
    try:
        return regex.try_compile()
    except re.error as error:
        raise CommandError(errors.BAD_VALUE, f"Regular expression is invalid: {error}") from error


@contextmanager
def _refused() -> Iterator[None]:
    """Say to the client what mongomock refuses."""
    try:
        yield
    except NotImplementedError as error:
        raise CommandError(errors.COMMAND_NOT_SUPPORTED, str(error)) from error
    except (PyMongoError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise CommandError(errors.BAD_VALUE, f"{type(error).__name__}: {error}") from error
