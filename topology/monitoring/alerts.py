"""What somebody is told of: an alert for what the runbook has an answer to."""

from __future__ import annotations

from topology.monitoring.model import Alert

ALERTS: tuple[Alert, ...] = (
    Alert(
        "PodstreamTargetDown",
        'up{job=~"podstream.*"} == 0',
        "2m",
        "critical",
        "{{ $labels.instance }} does not answer.",
        "The process is gone or stands still. Read the end of its log; the "
        "[runbook](runbook.md) has the sentences that it may end with.",
    ),
    Alert(
        "PodstreamProcessRestarts",
        'changes(process_start_time_seconds{job=~"podstream.*"}[15m]) > 3',
        "0m",
        "warning",
        "{{ $labels.instance }} has started more than three times in 15 minutes.",
        "It ends as soon as it starts, or in a loop at one record: the last line of its log is a "
        "sentence, and the [runbook](runbook.md) says what it means.",
    ),
    Alert(
        "PodstreamProcessStopped",
        "podstream_supervised_up == 0",
        "2m",
        "critical",
        "{{ $labels.process }} does not run.",
        "`podstream status` shows the state: in `BACKOFF` or `FATAL` it ends as soon as it starts; "
        "read its log ([runbook](runbook.md)).",
    ),
    Alert(
        "PodstreamServiceAway",
        "podstream_part_up == 0",
        "2m",
        "critical",
        "{{ $labels.part }} cannot be measured.",
        "Broker or MongoDB do not answer. Stages wait and go on by themselves once they do, and "
        "nothing is lost ([runbook](runbook.md)). A full disk is the usual cause.",
    ),
    Alert(
        "PodstreamStageNotReady",
        "podstream_stage_ready == 0",
        "5m",
        "warning",
        "{{ $labels.stage }} on {{ $labels.instance }} has not been ready for five minutes.",
        "`/ready` of the process says what is missing: references not read, state not restored, or "
        "behind. A state that is being restored takes its time; a stage that is behind wants "
        "another worker.",
    ),
    Alert(
        "PodstreamLagGrows",
        "podstream_stage_lag_records > 1000 and deriv(podstream_stage_lag_records[15m]) > 0",
        "15m",
        "warning",
        "{{ $labels.stage }} is {{ $value }} records behind, and falls further behind.",
        "It is slower than its input: start another worker of that stage ([README](../README.md)). "
        "Of Spark's stages: give it more cores, or a longer `DELTA_TRIGGER_S`.",
    ),
    Alert(
        "PodstreamSlow",
        "histogram_quantile(0.99, sum by (le, stage) (rate(podstream_stage_latency_seconds_bucket"
        '{stage=~"batch_events|track_engagement|recommend|serve_mongo"}[10m]))) > 1',
        "15m",
        "warning",
        "p99 of {{ $labels.stage }} is {{ $value | humanizeDuration }}: more than a second.",
        "Compare with `podstream_stage_handling_seconds`: if that is high too, the stage is slow "
        "(MongoDB, a busy machine); if not, it waits for its turn behind a backlog.",
    ),
    Alert(
        "PodstreamDeadLetters",
        "delta(podstream_dead_letter_records[15m]) > 0",
        "0m",
        "warning",
        "{{ $value }} records went to {{ $labels.topic }} in 15 minutes.",
        "`podstream dlq show TOPIC` gives the reason and the bytes; what to do with them is in the "
        "[runbook](runbook.md#dead-letters).",
    ),
    Alert(
        "PodstreamStageFails",
        "podstream_stage_failing_attempts > 2",
        "0m",
        "warning",
        "{{ $labels.stage }} has failed {{ $value }} times in a row.",
        "`podstream status` shows the error; the stage tries again, later each time. Everything "
        "else goes on with the model that is there.",
    ),
    Alert(
        "PodstreamGenerationsRefused",
        "podstream_generations_refused_in_a_row > 2",
        "0m",
        "warning",
        "The newest {{ $value }} generations of the recommendation model are refused.",
        "Lists are made with an older one. `podstream model list` says why: a broken training, or "
        "one that is worse than `ALS_MARGIN` allows; where listening has changed for good, raise "
        "that ([runbook](runbook.md)).",
    ),
    Alert(
        "PodstreamQueryStopped",
        "podstream_query_active == 0",
        "5m",
        "critical",
        "The query {{ $labels.query }} does not run.",
        "The log of `spark` says why; the sentences it may end with are in the "
        "[runbook](runbook.md).",
    ),
    Alert(
        "PodstreamLateEvents",
        "rate(podstream_late_events_total[1h]) > 0.05 * rate(podstream_counted_events_total[1h])",
        "30m",
        "warning",
        "More than a twentieth of the events are too late for the live tables.",
        "Nothing is lost: history has them ([live tables](live-tables.md#time-and-what-is-late)). "
        "A producer whose clock or queue is behind, or `ALLOWED_LATENESS_S` too short.",
    ),
    Alert(
        "PodstreamStrayEvents",
        "rate(podstream_stray_events_total[1h]) > 0",
        "1h",
        "info",
        "{{ $labels.client }} places listeners' events in other partitions than theirs.",
        "They count once and right, but are written twice: let the producer place keys by murmur2 "
        "([ADR 16](adr/0016-a-listener-belongs-to-one-partition.md)).",
    ),
    Alert(
        "PodstreamPartitionBehind",
        "max(podstream_watermark_timestamp_seconds) - min(podstream_watermark_timestamp_seconds) "
        "> 7200",
        "30m",
        "warning",
        "A source partition is {{ $value | humanizeDuration }} of event time behind another.",
        "Anomalies and expiry wait for the slowest partition. If it has a lag, see why; if nobody "
        "is heard in it, this ends with its next event ([runbook](runbook.md)).",
    ),
    Alert(
        "PodstreamDiskReserve",
        "podstream_disk_free_bytes < podstream_disk_reserve_bytes",
        "0m",
        "critical",
        "{{ $value | humanize1024 }}B are left on the disk, less than DISK_RESERVE.",
        "Free some, or stop and move the home; [sizing](sizing.md) says what takes how much. What "
        "was acknowledged stays.",
    ),
    Alert(
        "PodstreamDiskFills",
        "predict_linear(podstream_disk_free_bytes[6h], 86400) < podstream_disk_reserve_bytes",
        "1h",
        "warning",
        "At this rate the reserve of the disk is touched within a day.",
        "`podstream status` shows which store grows, [sizing](sizing.md) what it should take. If "
        "`kafka` grows, a stage that does not read holds up the purge ([runbook](runbook.md)).",
    ),
    Alert(
        "PodstreamApiErrors",
        'sum(rate(podstream_api_requests_total{status=~"5.."}[5m])) '
        "> 0.01 * sum(rate(podstream_api_requests_total[5m]))",
        "5m",
        "critical",
        "More than one in a hundred answers of the API is an error.",
        "Its log has the traceback. Where MongoDB is away answers are from memory, not errors "
        "([the API](api.md#there-is-always-an-answer)).",
    ),
    Alert(
        "PodstreamNumbersDiffer",
        "increase(podstream_verify_violations_total[1h]) > 0",
        "0m",
        "critical",
        "{{ $labels.check }}: {{ $value }} numbers differ.",
        "The output of `podstream verify --watch` names each key, with both values. `podstream "
        "verify` compares everything once; `podstream rebuild` makes the tables anew beside them, "
        "and `podstream versions promote` serves those ([runbook](runbook.md)).",
    ),
    Alert(
        "PodstreamNotVerified",
        "time() - podstream_verify_round_timestamp_seconds > 3600",
        "0m",
        "warning",
        "No round of `podstream verify --watch` was done within an hour.",
        "Its output says why: MongoDB or the broker do not answer, or `serve_mongo` does not keep "
        "up.",
    ),
)
