"""The error that a person can act on."""


class UserError(Exception):
    """A person's mistake: one line that names the field, its value and what would be right. Exit 2."""
