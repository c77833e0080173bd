"""Kafka as every part uses it: messages, clients, reading logs, wire formats, dead letters."""
