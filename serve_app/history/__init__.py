"""What a shopper did before: as of a row, live, and the stores that hold it."""
