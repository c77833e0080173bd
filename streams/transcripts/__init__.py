"""Transcripts: fetched, recognised from audio, analysed, compared."""
