"""Payloads: the JSON of a request into the Avro of a job, and the Avro of a reply into the JSON of a response.

`codec` is what the pipeline uses; `schemas` compiles an Avro schema into the nodes of `json_types`; `misfits` says in
words what does not fit where.
"""

from __future__ import annotations

from forebay_gateway.payloads.codec import PayloadCodec

__all__ = ["PayloadCodec"]
