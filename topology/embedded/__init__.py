"""The services of a machine without containers: a Kafka broker, a MongoDB server, a supervisor."""
