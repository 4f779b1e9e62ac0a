"""Identity providers: logout tokens, sign-in, and the session APIs of products."""
