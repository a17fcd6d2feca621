"""Access rules of a broker that has any, in which everything is allowed that no rule is about."""

from __future__ import annotations

from aiokafka.client import AIOKafkaClient
from aiokafka.protocol.admin import CreateAclsRequest, DeleteAclsRequest

AUTHORIZER = {
    "authorizer_class_name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
    "allow_everyone_if_no_acl_found": "true",
}
"""Settings of such a broker, for `tests.support.brokers.a_broker`."""

TOPIC, GROUP, CLUSTER = 2, 3, 4
READ, WRITE, CREATE, DESCRIBE, IDEMPOTENT_WRITE = 3, 4, 5, 8, 12
_ANY, _ALL, _LITERAL, _DENY, _ALLOW = 1, 2, 3, 2, 3


async def deny(bootstrap_servers: str, resource: int, name: str, operation: int) -> None:
    """Have the broker refuse everybody an operation on a topic, a group or the cluster; it does so a moment later."""
    client = AIOKafkaClient(bootstrap_servers=bootstrap_servers)
    await client.bootstrap()
    try:
        for affected, permission in ((_ALL, _ALLOW), (operation, _DENY)):  # where there is a rule, all else needs one
            rule = CreateAclsRequest(resource, name, _LITERAL, "User:*", "*", affected, permission)
            response = await client.send(client.get_random_node(), rule)
            assert [code for code, _ in response.creation_responses] == [0], response
    finally:
        await client.close()


async def allow(bootstrap_servers: str, resource: int, name: str) -> None:
    """Take back all rules about a topic, a group or the cluster."""
    client = AIOKafkaClient(bootstrap_servers=bootstrap_servers)
    await client.bootstrap()
    try:
        request = DeleteAclsRequest(resource, name, _LITERAL, None, None, _ANY, _ANY)
        response = await client.send(client.get_random_node(), request)
        assert [code for code, *_ in response.filter_responses] == [0], response
    finally:
        await client.close()
