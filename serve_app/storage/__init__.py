"""Files, buckets, SQL engines and SQLite: ground that no capability owns."""
