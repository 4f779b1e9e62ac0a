"""What people see, in headless Chromium (Debian's): skipped where there is none."""
