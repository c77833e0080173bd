"""The stages that run beside Kafka: Faust agents and confluent-kafka loops."""
