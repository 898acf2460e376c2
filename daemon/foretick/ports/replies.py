"""What error replies mean: our own error for each, told apart by its first word."""

from __future__ import annotations

from foretick.errors import CommandFailed, ServerRefused

REFUSALS = frozenset(  # first words of "up, but not able": waiting may help
    {
        "OOM",
        "READONLY",
        "LOADING",
        "MISCONF",
        "NOREPLICAS",
        "BUSY",
        "MASTERDOWN",
        "CLUSTERDOWN",
        "TRYAGAIN",
        "UNBLOCKED",
        "MOVED",
        "ASK",
    }
)
# The keys are, or soon will be, on another server: it has to be looked up again. UNBLOCKED: a master was demoted while
# we waited on it. READONLY also where a name in the DNS follows the master.
DEPARTURES = frozenset({"MOVED", "ASK", "READONLY", "MASTERDOWN", "CLUSTERDOWN", "UNBLOCKED"})
TLS = "TLS"  # not of Redis: the word of a refusal by the handshake
STRANGER = "STRANGER"  # nor this: another program answers than the URL says
DENIALS = frozenset({"NOAUTH", "WRONGPASS", TLS})  # at start a mistake, later a password or certificate being changed
_ABORTED_BECAUSE = "because of: "  # EXECABORT Transaction discarded because of: OOM command not allowed …


def explain(message: str) -> ServerRefused | CommandFailed:
    """Our error for a server's error reply, told apart by its first word."""
    word = message.partition(" ")[0]
    if word == "EXECABORT" and _ABORTED_BECAUSE in message:
        cause = message.partition(_ABORTED_BECAUSE)[2]
        return explain(cause)
    if word in REFUSALS or word in DENIALS or "max number of clients" in message:
        return ServerRefused(word, message)
    return CommandFailed(word, message)
