"""What a client is told when a command cannot be done, with MongoDB's codes."""

from __future__ import annotations

BAD_VALUE = 2
FAILED_TO_PARSE = 9
NAMESPACE_NOT_FOUND = 26
INDEX_NOT_FOUND = 27
NAMESPACE_EXISTS = 48
CURSOR_NOT_FOUND = 43
COMMAND_NOT_FOUND = 59
IMMUTABLE_FIELD = 66
CANNOT_CREATE_INDEX = 67
INVALID_NAMESPACE = 73
COMMAND_NOT_SUPPORTED = 115
TOO_LARGE = 10_334
DUPLICATE_KEY = 11_000


class CommandError(Exception):
    """A command, or one operation of it, that failed: MongoDB's ``code`` and a sentence."""

    def __init__(self, code: int, message: str):
        super().__init__(message)
        self.code = code
