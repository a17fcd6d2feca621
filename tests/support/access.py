"""Access rules of a broker that has any, in which everything is allowed that no rule is about."""

from __future__ import annotations

from aiokafka.client import AIOKafkaClient
from aiokafka.protocol.admin import CreateAclsRequest

AUTHORIZER = {
    "authorizer_class_name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
    "allow_everyone_if_no_acl_found": "true",
}
"""Settings of such a broker, for `tests.support.brokers.a_broker`."""

TOPIC, GROUP = 2, 3
READ, WRITE = 3, 4
_LITERAL, _DENY = 3, 2


async def deny(bootstrap_servers: str, resource: int, name: str, operation: int) -> None:
    """Have the broker refuse everybody an operation on a topic or a group."""
    client = AIOKafkaClient(bootstrap_servers=bootstrap_servers)
    await client.bootstrap()
    try:
        rule = CreateAclsRequest(resource, name, _LITERAL, "User:*", "*", operation, _DENY)
        response = await client.send(client.get_random_node(), rule)
        assert [code for code, _ in response.creation_responses] == [0], response
    finally:
        await client.close()
