"""Hostile calls and files: `python -m tests.attack`.

Every public function gets arguments that nobody should pass, every command files that are not what
they claim. What may come of it is a result or an `lgreco.Error`; any other exception, a signal, or
a call that does not end is a fault of the library.
"""
