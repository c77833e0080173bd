"""What the embedded MongoDB server answers: what MongoDB would, by index where there is one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import mongomock
import pytest
from bson import Decimal128, Int64, ObjectId
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pymongo import DeleteMany, DeleteOne, InsertOne, MongoClient, ReplaceOne, UpdateOne
from pymongo.collection import Collection, ReturnDocument
from pymongo.errors import BulkWriteError, DuplicateKeyError, OperationFailure

pytestmark = pytest.mark.mongo

Document = dict[str, Any]
# without a zone, as clients give times unless they are told otherwise
START = datetime(2026, 1, 1, tzinfo=UTC).replace(tzinfo=None)


@pytest.fixture(scope="module")
def client(mongo_uri: str) -> Iterator[MongoClient[Document]]:
    with MongoClient[Document](mongo_uri) as found:
        yield found


@pytest.fixture
def kept(client: MongoClient[Document]) -> Collection[Document]:
    """A collection of its own, which does not exist yet."""
    return client["answers"][f"c{uuid4().hex}"]


# -- as MongoDB ------------------------------------------------------------------------------------

NUMBERS = st.one_of(
    st.integers(-3, 3),
    st.integers(-3, 3).map(float),
    st.sampled_from([0.5, -0.5, 2**53, 2**53 + 1, -(2**60), 1e300]),
)
TIMES = st.integers(-5, 5).map(lambda n: START + timedelta(hours=n))
# without booleans, which to the model are numbers
SCALARS = st.one_of(st.none(), NUMBERS, st.sampled_from(["", "a", "ab", "é"]), TIMES)
VALUES = st.one_of(SCALARS, st.lists(NUMBERS, max_size=2))
DOCUMENTS = st.lists(
    st.fixed_dictionaries(
        {},
        optional={
            "a": VALUES,
            "b": SCALARS,
            "c": st.fixed_dictionaries({}, optional={"d": SCALARS}),
        },
    ),
    max_size=12,
)
COMPARABLE = st.one_of(NUMBERS, TIMES, st.sampled_from(["a", "ab"]))
CONDITIONS = st.one_of(
    SCALARS,
    st.fixed_dictionaries({"$in": st.lists(SCALARS, max_size=3)}),
    st.fixed_dictionaries(
        {}, optional=dict.fromkeys(("$gt", "$gte", "$lt", "$lte"), COMPARABLE)
    ).filter(bool),
    st.fixed_dictionaries({"$exists": st.booleans()}),
    st.fixed_dictionaries({"$ne": SCALARS}),
)
FIELDS = st.sampled_from(["_id", "a", "b", "c.d"])
FILTERS = st.recursive(
    st.dictionaries(FIELDS, CONDITIONS, max_size=2),
    lambda inner: (
        st.fixed_dictionaries({"$and": st.lists(inner, min_size=1, max_size=2)})
        | st.fixed_dictionaries({"$or": st.lists(inner, min_size=1, max_size=2)})
    ),
    max_leaves=3,
)
SORTS = st.lists(
    st.tuples(st.sampled_from(["b", "c.d"]), st.sampled_from([1, -1])),
    max_size=2,
    unique_by=lambda term: term[0],
)


@settings(
    max_examples=150,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(DOCUMENTS, FILTERS, SORTS, st.integers(0, 3), st.integers(0, 4), st.booleans())
def test_a_find_gives_what_a_model_of_mongodb_gives(
    client: MongoClient[Document],
    documents: list[Document],
    wanted: Document,
    sort: list[tuple[str, int]],
    skip: int,
    limit: int,
    indexed: bool,
) -> None:
    kept = client["answers"][f"c{uuid4().hex}"]
    model: Any = mongomock.MongoClient()["model"]["model"]
    if indexed:
        for field in ("a", "b", "c.d"):
            kept.create_index(field)
        kept.create_index([("b", -1), ("c.d", 1)])
    for number, document in enumerate(documents):
        kept.insert_one({"_id": number, **document})
        model.insert_one({"_id": number, **document})
    # `_id` last: what sorts alike has no order of its own
    by = [*sort, ("_id", 1)]
    found = list(kept.find(wanted).sort(by).skip(skip).limit(limit))
    assert found == list(model.find(wanted).sort(by).skip(skip).limit(limit))
    assert kept.count_documents(wanted) == model.count_documents(wanted)
    assert kept.delete_many(wanted).deleted_count == model.delete_many(wanted).deleted_count
    assert list(kept.find().sort("_id")) == list(model.find().sort("_id"))
    kept.drop()


def test_every_kind_of_value_comes_back_as_it_was(kept: Collection[Document]) -> None:
    document = {
        "_id": ObjectId(),
        "long": Int64(2**40),
        "decimal": Decimal128("1.50"),
        "bytes": b"\x00\xff",
        "nested": {"list": [1, [2, {"three": None}]]},
        "text": "é\u0000x",
        "at": START - timedelta(days=700_000),
    }
    kept.insert_one(document)
    assert kept.find_one({"_id": document["_id"]}) == document


def test_what_is_false_is_no_number(kept: Collection[Document]) -> None:
    kept.create_index("flag")
    kept.insert_many([{"_id": 1, "flag": False}, {"_id": 2, "flag": 0}, {"_id": 3}])
    assert [d["_id"] for d in kept.find({"flag": False})] == [1]
    assert [d["_id"] for d in kept.find({"flag": 0})] == [2]
    assert [d["_id"] for d in kept.find().sort("flag", 1)] == [3, 2, 1]


def test_numbers_are_equal_whatever_their_type(kept: Collection[Document]) -> None:
    kept.create_index("n")
    kept.insert_many([{"_id": 1, "n": 5}, {"_id": 2, "n": 5.0}, {"_id": 3, "n": Int64(5)}])
    assert {d["_id"] for d in kept.find({"n": 5})} == {1, 2, 3}
    with pytest.raises(DuplicateKeyError):
        kept.insert_one({"_id": 1.0})


# -- by index --------------------------------------------------------------------------------------


def examined(kept: Collection[Document], wanted: Document, **more: Any) -> int:
    explained = kept.database.command("explain", {"find": kept.name, "filter": wanted, **more})
    return int(explained["executionStats"]["totalDocsExamined"])


@pytest.fixture
def minutes(kept: Collection[Document]) -> Collection[Document]:
    """4,000 minutes of ten episodes, with the indexes that their collection declares."""
    kept.create_index([("bucket", -1)])
    kept.create_index([("episode_id", 1), ("bucket", -1)])
    kept.insert_many(
        {
            "_id": f"e{n % 10}|{n // 10}",
            "episode_id": f"e{n % 10}",
            "bucket": START + timedelta(minutes=n // 10),
            "plays": n,
        }
        for n in range(40_000)
    )
    return kept


def test_what_readers_ask_for_is_found_by_index(minutes: Collection[Document]) -> None:
    span = {"bucket": {"$gte": START, "$lt": START + timedelta(minutes=15)}}
    assert examined(minutes, span) == 150
    assert examined(minutes, {"episode_id": "e3", **span}) == 15
    assert examined(minutes, {"_id": {"$in": ["e1|1", "e2|2", "nosuch"]}}) == 2
    assert examined(minutes, {"_id": {"$gte": "e9|39", "$lt": "e9|3A"}}) < 200
    assert examined(minutes, {}, sort={"bucket": -1}, limit=1) == 1
    assert examined(minutes, {}, sort={"bucket": 1}, limit=1) == 1
    assert examined(minutes, {"episode_id": "e3"}, sort={"bucket": -1}, limit=5) == 5


def test_what_no_index_knows_is_looked_for_in_everything(minutes: Collection[Document]) -> None:
    assert examined(minutes, {"plays": 3}) == 40_000
    assert examined(minutes, {}, sort={"plays": 1}, limit=1) == 40_000
    assert minutes.find_one({"plays": 3})["_id"] == "e3|0"  # type: ignore[index]


def test_an_index_that_comes_later_knows_what_was_there(kept: Collection[Document]) -> None:
    kept.insert_many([{"_id": n, "a": {"b": n % 3}} for n in range(30)])
    kept.create_index([("a.b", 1)])
    assert examined(kept, {"a.b": 2}) == 10
    assert set(kept.index_information()) == {"_id_", "a.b_1"}
    kept.drop_index("a.b_1")
    assert kept.count_documents({"a.b": 2}) == 10
    assert set(kept.index_information()) == {"_id_"}


def test_a_field_with_arrays_is_still_found_by_their_items(kept: Collection[Document]) -> None:
    kept.create_index("tags")
    kept.insert_many([{"_id": 1, "tags": "x"}, {"_id": 2, "tags": ["x", "y"]}, {"_id": 3}])
    assert {d["_id"] for d in kept.find({"tags": "x"})} == {1, 2}
    assert [d["_id"] for d in kept.find({"tags": {"$in": ["y"]}})] == [2]
    assert sorted(kept.distinct("tags")) == ["x", "y"]


def test_a_unique_index_holds(kept: Collection[Document]) -> None:
    kept.create_index("name", unique=True)
    kept.insert_one({"_id": 1, "name": "a"})
    with pytest.raises(DuplicateKeyError):
        kept.insert_one({"_id": 2, "name": "a"})
    with pytest.raises(OperationFailure):
        kept.insert_one({"_id": 3, "name": ["a", "b"]})
    assert kept.count_documents({}) == 1


# -- large answers ---------------------------------------------------------------------------------


def test_an_answer_of_any_size_comes_in_batches(minutes: Collection[Document]) -> None:
    assert len({d["_id"] for d in minutes.find({}, {"_id": 1})}) == 40_000
    assert [d["plays"] for d in minutes.find().sort("bucket", 1).batch_size(7).limit(100)]
    large = [{"_id": f"large{n}", "text": "x" * 4_000_000} for n in range(12)]
    for document in large:
        minutes.insert_one(document)
    assert sum(len(d["text"]) for d in minutes.find({"_id": {"$regex": "^large"}})) == 48_000_000


def test_documents_may_come_and_go_while_they_are_read(minutes: Collection[Document]) -> None:
    reading = minutes.find({}, batch_size=100).sort("bucket", 1)
    seen = [next(reading)["_id"] for _ in range(100)]
    minutes.delete_many({"bucket": {"$gte": START + timedelta(minutes=3000)}})
    minutes.insert_one({"_id": "new", "bucket": START + timedelta(minutes=3500)})
    seen += [document["_id"] for document in reading]
    assert len(seen) == len(set(seen)) == 30_000
    assert "new" not in seen


def test_a_cursor_is_closed_by_its_client(minutes: Collection[Document]) -> None:
    reading = minutes.find({}, batch_size=10)
    next(reading)
    number = reading.cursor_id
    reading.close()
    with pytest.raises(OperationFailure, match="not found"):
        minutes.database.command({"getMore": Int64(number or 0), "collection": minutes.name})


# -- writing ---------------------------------------------------------------------------------------


def test_a_bulk_says_what_it_did(kept: Collection[Document]) -> None:
    done = kept.bulk_write(
        [
            InsertOne({"_id": "a", "n": 1}),
            ReplaceOne({"_id": "b"}, {"n": 2}, upsert=True),
            UpdateOne({"_id": "a"}, {"$set": {"parts.0": {"n": 1}}, "$inc": {"n": 5}}),
            UpdateOne({"_id": "c"}, {"$max": {"at": START}}, upsert=True),
            UpdateOne({"_id": "a"}, {"$set": {"n": 6}}),
            DeleteOne({"_id": "nosuch"}),
            DeleteMany({"n": 2}),
        ]
    )
    assert (done.inserted_count, done.matched_count, done.modified_count) == (1, 2, 1)
    assert (done.upserted_count, done.deleted_count) == (2, 1)
    assert done.upserted_ids == {1: "b", 3: "c"}
    assert list(kept.find().sort("_id")) == [
        {"_id": "a", "n": 6, "parts": {"0": {"n": 1}}},
        {"_id": "c", "at": START},
    ]


def test_what_fails_in_a_bulk_leaves_the_rest(kept: Collection[Document]) -> None:
    kept.insert_one({"_id": 2})
    operations: Sequence[InsertOne[Document]] = [InsertOne({"_id": n}) for n in (1, 2, 3)]
    with pytest.raises(BulkWriteError) as failed:
        kept.bulk_write(operations, ordered=False)
    assert [error["code"] for error in failed.value.details["writeErrors"]] == [11000]
    assert {d["_id"] for d in kept.find()} == {1, 2, 3}
    with pytest.raises(BulkWriteError):
        kept.bulk_write([InsertOne({"_id": 3}), InsertOne({"_id": 4})])
    assert kept.find_one({"_id": 4}) is None


def test_operators_change_what_they_name(kept: Collection[Document]) -> None:
    kept.insert_one({"_id": 1, "list": [1, 2], "items": [{"k": 1}, {"k": 2}]})
    kept.update_one({"_id": 1}, {"$push": {"list": 3}, "$unset": {"nosuch": ""}})
    kept.update_one({"_id": 1, "items.k": 2}, {"$set": {"items.$.seen": True}})
    kept.update_many({}, {"$rename": {"list": "numbers"}})
    assert kept.find_one() == {
        "_id": 1,
        "numbers": [1, 2, 3],
        "items": [{"k": 1}, {"k": 2, "seen": True}],
    }
    with pytest.raises(OperationFailure):
        kept.update_one({"_id": 1}, {"$nosuch": {"a": 1}})
    with pytest.raises(OperationFailure, match="immutable"):
        kept.replace_one({"_id": 1}, {"_id": 2})


def test_find_and_modify(kept: Collection[Document]) -> None:
    kept.insert_many([{"_id": n, "n": n} for n in range(3)])
    after = kept.find_one_and_update(
        {"n": {"$gte": 1}},
        {"$inc": {"n": 10}},
        sort=[("n", -1)],
        return_document=ReturnDocument.AFTER,
    )
    assert after == {"_id": 2, "n": 12}
    assert kept.find_one_and_delete({"_id": 0}) == {"_id": 0, "n": 0}
    assert kept.find_one_and_replace({"_id": 9}, {"n": 9}, upsert=True) is None
    assert {d["_id"] for d in kept.find()} == {1, 2, 9}


# -- pipelines -------------------------------------------------------------------------------------


def test_pipelines(minutes: Collection[Document]) -> None:
    span = {"bucket": {"$gte": START, "$lt": START + timedelta(minutes=2)}}
    rows = minutes.aggregate(
        [{"$match": span}, {"$group": {"_id": "$bucket", "plays": {"$sum": "$plays"}}}]
    )
    assert {(row["_id"], row["plays"]) for row in rows} == {
        (START, 45),
        (START + timedelta(minutes=1), 145),
    }
    assert list(minutes.aggregate([{"$match": span}, {"$count": "n"}])) == [{"n": 20}]
    newest = minutes.aggregate([{"$sort": {"bucket": -1}}, {"$limit": 10}, {"$count": "n"}])
    assert list(newest) == [{"n": 10}]
    assert len(list(minutes.aggregate([{"$match": {}}, {"$limit": 5000}]))) == 5000
    with pytest.raises(OperationFailure):
        minutes.aggregate([{"$nosuch": {}}])


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(DOCUMENTS.filter(bool), st.sampled_from([None, "$b", "$a", "$nosuch"]))
def test_sums_by_group_are_those_of_a_model_of_mongodb(
    client: MongoClient[Document], documents: list[Document], by: str | None
) -> None:
    kept = client["answers"][f"c{uuid4().hex}"]
    model: Any = mongomock.MongoClient()["model"]["model"]
    for number, document in enumerate(documents):
        kept.insert_one({"_id": number, **document})
        model.insert_one({"_id": number, **document})
    sums = {"n": {"$sum": 1}, "a": {"$sum": "$a"}, "b": {"$sum": "$b"}}
    pipeline = [{"$group": {"_id": by, **sums}}]

    def rows(found: Any) -> list[tuple[str, Any, Any, Any]]:
        plain = [(repr(row["_id"]), row["n"], row["a"], row["b"]) for row in found]
        return sorted(plain)

    assert rows(kept.aggregate(pipeline)) == rows(model.aggregate(pipeline))
    kept.drop()


# -- collections -----------------------------------------------------------------------------------


def test_collections_come_go_and_are_renamed(client: MongoClient[Document]) -> None:
    database = client[f"d{uuid4().hex}"]
    database["one"].insert_one({"_id": 1})
    database["two"].create_index("a")
    assert database.list_collection_names() == ["one", "two"]
    database["one"].rename("two", dropTarget=True)
    assert database.list_collection_names() == ["two"]
    assert database["two"].find_one() == {"_id": 1}
    assert set(database["two"].index_information()) == {"_id_"}
    client.drop_database(database.name)
    assert database.name not in client.list_database_names()
    assert database["two"].find_one() is None


def test_an_unknown_command_is_said_to_be_one(client: MongoClient[Document]) -> None:
    with pytest.raises(OperationFailure, match="no such command") as refused:
        client.admin.command("shardCollection", "a.b")
    assert refused.value.code == 59


def test_times_with_a_zone_are_times(kept: Collection[Document]) -> None:
    kept.create_index("at")
    kept.insert_one({"_id": 1, "at": START.replace(tzinfo=UTC)})
    assert kept.find_one({"at": START}) is not None
    assert kept.find_one({"at": {"$gt": START - timedelta(milliseconds=1)}}) is not None
