"""Features that were served, compared with those that training would have seen."""
