"""Reading files of strangers: what runs nothing of theirs."""
