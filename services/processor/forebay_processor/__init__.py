"""The processor: jobs from Kafka, through a handler, to a reply on Kafka.

A job reads from top to bottom: `fetch` → `schedule` → `run` → `settle`. The decisions (`schedule`, `offsets`) do no I/O
and are given the time; `service` puts the parts together.
"""
