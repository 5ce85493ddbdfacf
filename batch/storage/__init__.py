"""What a batch job reads and writes: input files of rows, the output folder and its records."""
