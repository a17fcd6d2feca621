"""The gateway: HTTP in, Kafka out and back, HTTP out.

A request reads from top to bottom: `route` → `validate` → `dispatch` (register, publish, wait, forget) → `answer`.
`replies` brings the answers home, `service` puts the parts together.
"""
