"""The one family of errors that people read: what is wrong, where, and what to do, in one line."""


class SmsError(Exception):
    """An error for people. Its text is one line and holds no number, name or secret."""
