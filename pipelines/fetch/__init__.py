"""Fetching from an open web: one `Web` for each worker process, one `FetchPolicy` that says what is allowed."""
