"""What a person sees in a terminal: tables, colours, exit codes, interrupts."""
