"""What the library raises. Every message names what was wrong, where, and what to do."""


class Error(RuntimeError):
    """Base of everything lgreco raises on purpose."""


class ConfigError(Error, ValueError):
    """Wrong use: an unknown method, a parameter out of range, an unsupported dtype."""


class MismatchError(Error):
    """The ranks differ: in their settings (before the first step) or in their parameters."""


class PeerError(Error):
    """A peer or the network failed. The process group is unusable from here on."""


class ProtocolError(Error):
    """A message or payload is not what it must be."""


class StateError(Error):
    """A state, plan or checkpoint cannot be loaded here."""
