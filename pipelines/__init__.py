"""From metadata on the web to committed shards: sources, steps, fetching, media, and the runners that map units."""
