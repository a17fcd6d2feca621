"""run: call the handler of a job where its operation says.

`resolve` finds the operation and the schema that wrote the payload; `handlers` decodes the request and calls the
handler: on the event loop (`loop`), in a thread (`threads`) or in a process (`pool`); `call` says what came of it.
"""
