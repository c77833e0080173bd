"""The stages that run beside Kafka, folder by folder along the river, and what they stand on."""
