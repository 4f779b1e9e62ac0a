"""``python -m app check``: settings, providers, session APIs, Redis and journal, in one table.

command       the command, and the rows of issuers' keys and the journal
discovery     what the provider's discovery says of logouts; the public URL
preset        what is known of the provider, compared with the settings
session_apis  whether the session APIs answer, and whether markers live long enough
redis         each server's state, and the level of durability
redis_access  what the receiver's Redis user may do
apps          apps whose logouts reach nobody, and apps that no client leads to
"""

from app.cli.check.command import HELP, run

__all__ = ["HELP", "run"]
