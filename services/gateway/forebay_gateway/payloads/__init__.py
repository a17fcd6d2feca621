"""Payloads: the JSON of a request into the Avro of a job, and the Avro of a reply into the JSON of a response.

`codec` is what the pipeline uses; `compile` turns an Avro schema into a tree of `nodes`, whose kinds are in `scalars`,
`containers` and `unions`; `deferred` reads a part whose type is only known after it was read as plain JSON; `explain`
says in words what does not match its type, and where, of the `parts` of what came.
"""

from __future__ import annotations

from forebay_gateway.payloads.codec import PayloadCodec

__all__ = ["PayloadCodec"]
