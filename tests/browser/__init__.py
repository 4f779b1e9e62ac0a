"""The users' component in headless Chromium; skipped without one."""
