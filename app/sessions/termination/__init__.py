"""Ends a session at its provider and follows it until every app has let go.

terminations     begins terminations, resumes those of processes that died
termination      one termination: its phases and deliveries                 (pure)
redis_records    terminations in Redis, and the lease of the process that follows each
follower         follows one termination to its end
user_follower    follows the termination of all sessions of a user
evidence         finds the event by which an app learned of a termination
"""
