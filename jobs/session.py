"""The one Spark session of the platform: local jars, loopback, small."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Mapping

from pyspark.sql import SparkSession

from jobs.spark_jars import jar_paths
from topology.places import local_folder
from topology.settings import LOOPBACK, Settings

log = logging.getLogger(__name__)

APP_NAME = "podstream"
# one collector thread: two cores are shared with the hot path, and the heap is small; a deep
# stack, because Spark takes a Python traceback apart by a recursive regular expression
_JAVA_OPTIONS = "-XX:+UseSerialGC -XX:+ExitOnOutOfMemoryError -Xss4m"


def session_config(settings: Settings) -> dict[str, str]:
    """Spark's configuration, by Spark's own names. Raises JarsError if the jars cannot be had."""
    scratch = settings.podstream_home / "spark"
    config = {
        "spark.jars": ",".join(str(path) for path in jar_paths("spark")),
        "spark.sql.extensions": "io.delta.sql.DeltaSparkSessionExtension",
        "spark.sql.catalog.spark_catalog": "org.apache.spark.sql.delta.catalog.DeltaCatalog",
        "spark.driver.memory": settings.spark_driver_memory,
        "spark.driver.extraJavaOptions": _JAVA_OPTIONS,
        "spark.local.dir": str(scratch / "local"),
        "spark.sql.warehouse.dir": str(scratch / "warehouse"),
        "spark.sql.session.timeZone": "UTC",
        # micro-batches are small: what costs is the number of tasks and commits
        "spark.sql.shuffle.partitions": "2",
        "spark.sql.adaptive.enabled": "false",
        "spark.sql.parquet.compression.codec": "zstd",
        "spark.databricks.delta.snapshotPartitions": "2",
        "spark.sql.streaming.minBatchesToRetain": "10",
        "spark.sql.streaming.numRecentProgressUpdates": "5",
        "spark.executorEnv.POLARS_MAX_THREADS": "1",
        "spark.ui.port": str(settings.port("spark_ui")),
        "spark.ui.killEnabled": "false",
        "spark.ui.showConsoleProgress": "false",
        "spark.ui.retainedJobs": "50",
        "spark.ui.retainedStages": "50",
        "spark.ui.retainedTasks": "500",
        "spark.sql.ui.retainedExecutions": "20",
        "spark.eventLog.enabled": "false",
    }
    if is_local(settings):
        config |= {"spark.driver.host": LOOPBACK, "spark.driver.bindAddress": LOOPBACK}
    return config


def is_local(settings: Settings) -> bool:
    """Whether driver and executors are one process on this machine."""
    return settings.spark_master.startswith("local")


def build_session(settings: Settings, overrides: Mapping[str, str] | None = None) -> SparkSession:
    """The session of this process, started at the first call; its logs are warnings only."""
    if is_local(settings):
        os.environ["SPARK_LOCAL_IP"] = LOOPBACK  # what the UI's web server binds
        os.environ["PYSPARK_PYTHON"] = sys.executable  # not the first python3 on the PATH
        checkpoints = local_folder(settings.checkpoint_root)
        for folder in (settings.podstream_home / "spark" / "local", checkpoints):
            if folder is not None:
                folder.mkdir(parents=True, exist_ok=True)
    builder = SparkSession.builder.appName(APP_NAME).master(settings.spark_master)
    for name, value in {**session_config(settings), **(overrides or {})}.items():
        builder = builder.config(name, value)
    session = builder.getOrCreate()
    session.sparkContext.setLogLevel("WARN")
    session.sparkContext.setCheckpointDir(str(settings.podstream_home / "spark" / "rdd"))
    return session
