"""The ``forebay`` command: one module a command, and the supervisor of ``forebay up``.

Nothing here is imported by the library or by a service, and a service is imported only by the command that runs it.
"""
