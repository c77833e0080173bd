"""Stages on Faust: the only place that touches what is private to it.

faust-streaming and aiokafka are pinned exactly, because neither promises to keep these parts. A new
version is a reading of each of them, then a new pin.

What we override, in `consumer.Consumer`:

- ``perform_seek``: stops fetching and waits for the fetch under way. Faust seeks beside it, drops
  what it fetched and takes the hole for records that were compacted away.
- ``_getmany``: holds the lock that ``perform_seek`` waits for.
- ``seek_to_committed``: goes to the beginning of a partition of which nothing is committed. Faust
  leaves it where it is, after what was dropped.
- ``verify_event_path``: does nothing. Faust logs errors of partitions that have nothing to read;
  the watchdog (`streams.runtime.watchdog`) knows idle from stuck, and ends what is stuck.
- ``Transport.Consumer``: gives an app that consumer; `streams.app` sets ``app.transport``.

What we call without its being documented:

- ``Consumer.stop_flow``, ``earliest_offsets`` and ``_thread.seek_wait``, in those overrides.
- ``stream.noack()`` with ``stream.ack(event)``, in `runner`: a message is acknowledged when what it
  led to has been delivered, and not when the next one is taken.
- ``app.rebalancing``, ``app.consumer_generation_id`` and ``consumer.assignment()``, ``position()``:
  what the watchdog and the share of rates are told.
- ``app.producer_only``, in `streams.app`: a stage of timers alone subscribes to nothing, which a
  consumer refuses.

What we count on in the order of its steps:

- ``on_partitions_revoked`` is sent after Faust has waited for every message that a handler has
  (``stream_wait_empty``), so that a state is not taken from a handler.
- ``on_partitions_assigned`` is sent while no records flow: they begin again after a seek.
- Partitions of the same number go to the same worker for all topics of a stage that have as many of
  them: the state of a partition belongs to whoever reads it.
"""
