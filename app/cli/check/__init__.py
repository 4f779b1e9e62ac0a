"""``python -m app check``: settings, providers, session APIs, Redis and journal, in one table.

command       the command, and the rows of issuers' keys and the journal
discovery     what the provider's discovery says of logouts; the public URL
preset        what is known of the provider, compared with the settings
session_apis  whether the session APIs answer, and whether markers live long enough
redis         each server's state, and the level of durability
redis_access  what the receiver's Redis user may do
app_rights    apps whose keys the Redis user may not write
session_ages  apps that other receivers serve with another max_session_age
tenants       the files of the tenants
apps          apps whose logouts reach nobody, and apps that no client leads to
"""

from app.cli.check.command import HELP, add_arguments, run

__all__ = ["HELP", "add_arguments", "run"]
