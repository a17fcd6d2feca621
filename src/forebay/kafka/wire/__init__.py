"""What Forebay uses of aiokafka, and of Kafka's protocol beyond it; nothing else imports aiokafka.

Much of it is not documented by aiokafka and may change with any release: the tests marked ``compat`` hold what is
relied on, and pyproject.toml bounds the version.
"""
