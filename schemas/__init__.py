"""Record schemas, one file a version, and the codecs for Avro messages and Arrow batches."""
