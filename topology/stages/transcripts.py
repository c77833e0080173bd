"""From an episode to what is said in it."""

from __future__ import annotations

from topology.model import declare_stage
from topology.tables import AUDIO_QUEUE, FINGERPRINTS, TRANSCRIPT_RETRIES, TRANSCRIPT_VERSIONS
from topology.topics.analysis import EPISODE_ANALYSIS, EPISODE_DUPLICATES
from topology.topics.hosts import SOURCE_HOSTS
from topology.topics.ingest import EPISODE_METADATA
from topology.topics.transcripts import EPISODE_TRANSCRIPTS, HEARD_TRANSCRIPTS

FETCH_TRANSCRIPTS = declare_stage(
    "fetch_transcripts",
    "Fetches and parses transcripts: SRT, VTT, JSON, HTML and plain text. What is not "
    "available is tried again later. Passes on what was heard in audio.",
    runner="faust",
    entry_point="streams.transcripts.fetch_transcripts",
    worker="ingest",
    consumes=(EPISODE_METADATA, HEARD_TRANSCRIPTS),
    produces=(EPISODE_TRANSCRIPTS, SOURCE_HOSTS),
    tables=(TRANSCRIPT_RETRIES, TRANSCRIPT_VERSIONS),
    reaches=("web",),
)

TRANSCRIBE_AUDIO = declare_stage(
    "transcribe_audio",
    "Transcribes the audio of episodes that list no transcript.",
    runner="faust",
    entry_point="streams.transcripts.transcribe_audio",
    worker="ingest",
    consumes=(EPISODE_METADATA,),
    produces=(HEARD_TRANSCRIPTS, SOURCE_HOSTS),
    tables=(AUDIO_QUEUE,),
    reaches=("web",),
    switch="transcribe_audio",
)

ANALYSE_TRANSCRIPTS = declare_stage(
    "analyse_transcripts",
    "Works out keyphrases, pace, speakers, readability, probable advertisements and a "
    "fingerprint of each transcript.",
    runner="faust",
    entry_point="streams.transcripts.analyse_transcripts",
    worker="ingest",
    consumes=(EPISODE_TRANSCRIPTS,),
    produces=(EPISODE_ANALYSIS,),
)

FIND_DUPLICATES = declare_stage(
    "find_duplicates",
    "Finds episodes whose transcripts are nearly the same, such as re-uploads.",
    runner="faust",
    entry_point="streams.transcripts.find_duplicates",
    worker="ingest",
    consumes=(EPISODE_ANALYSIS,),
    broadcast=(EPISODE_METADATA,),
    produces=(EPISODE_DUPLICATES,),
    tables=(FINGERPRINTS,),
)

STAGES = (
    FETCH_TRANSCRIPTS,
    TRANSCRIBE_AUDIO,
    ANALYSE_TRANSCRIPTS,
    FIND_DUPLICATES,
)
